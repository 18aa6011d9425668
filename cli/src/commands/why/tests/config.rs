//! Config, secrets and what the package asks for.

use std::collections::BTreeSet;

use super::*;
use crate::commands::why::observed::{Kind, Outline, Reference};

fn reference(kind: Kind, lookup: Lookup<Outline>) -> Reference {
    Reference {
        field: match kind {
            Kind::ConfigMap => "spec.config.defaultFrom".into(),
            Kind::Secret => "spec.secrets mail".into(),
        },
        kind,
        name: "access".into(),
        key: Some("password".into()),
        lookup,
    }
}

fn outline(keys: &[&str], is_open: bool) -> Lookup<Outline> {
    Lookup::Found(Outline {
        keys: keys
            .iter()
            .map(|key| (*key).to_owned())
            .collect::<BTreeSet<_>>(),
        is_open,
    })
}

#[test]
fn config_breaks_the_schema() {
    let observed = held_by(
        ConditionType::ConfigValid,
        Reason::ConfigInvalid,
        "The config breaks the package's instanceConfigSchema: /cups: \"many\" is not of type \"integer\".",
    );
    insta::assert_snapshot!("config_breaks_the_schema", told(&observed));
}

#[test]
fn config_is_refused_by_the_worker() {
    let mut observed = held_by(
        ConditionType::ConfigValid,
        Reason::ConfigRejected,
        "The worker refused the config: no kettle holds 900 cups. The worker goes on with the config of revision 1.",
    );
    observed.pods = vec![pod("pcp-tea-1", vec![container("worker", running())])];
    insta::assert_snapshot!("config_is_refused_by_the_worker", told(&observed));
}

#[test]
fn secret_is_missing() {
    let mut observed = held_by(
        ConditionType::ConfigValid,
        Reason::SecretUnavailable,
        "Secret access of spec.secrets mail does not exist. Create it: kubectl create secret generic access -n shop --from-file=password=FILE.",
    );
    observed.references = vec![
        reference(Kind::Secret, Lookup::Missing),
        reference(Kind::ConfigMap, outline(&["user"], true)),
    ];
    insta::assert_snapshot!("secret_is_missing", told(&observed));
}

#[test]
fn secret_is_not_labelled() {
    // The operator looked before the Secret was made.
    let mut observed = held_by(
        ConditionType::ConfigValid,
        Reason::SecretUnavailable,
        "Secret access of spec.secrets mail does not exist.",
    );
    observed.references = vec![reference(Kind::Secret, outline(&["password"], false))];
    insta::assert_snapshot!("secret_is_not_labelled", told(&observed));
}

#[test]
fn a_reference_is_named_by_what_it_lacks() {
    use crate::commands::why::references::trouble;
    let of = |kind, lookup| trouble(&reference(kind, lookup));
    assert_eq!(of(Kind::Secret, outline(&["password"], true)), None);
    assert_eq!(of(Kind::Secret, Lookup::NotRead), None);
    assert_eq!(
        of(Kind::Secret, outline(&[], true)).as_deref(),
        Some("Secret access of spec.secrets mail has no key password.")
    );
    assert_eq!(
        of(Kind::ConfigMap, Lookup::Missing).as_deref(),
        Some("ConfigMap access of spec.config.defaultFrom does not exist.")
    );
    let credential = |lookup| Reference {
        field: "spec.source.npm.credentialsSecret".into(),
        key: None,
        ..reference(Kind::Secret, lookup)
    };
    assert_eq!(trouble(&credential(outline(&["token"], true))), None);
    assert_eq!(
        trouble(&credential(outline(&["token"], false))).as_deref(),
        Some(
            "Secret access of spec.source.npm.credentialsSecret lacks the label plugins.paperclip.ing/allow-plugins=true."
        )
    );
}
