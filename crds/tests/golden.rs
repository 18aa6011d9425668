//! The committed copies of what is made from the types are what the types say.

use std::{fs, path::Path};

use paperclip_crds::v1alpha1::{ConditionType, Reason};
use serde_json::Value;

/// Compares a committed file with what is made from the types.
fn assert_golden(path: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("PAPERCLIP_UPDATE_GOLDEN").is_some() {
        fs::write(&file, made).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == made,
        "{path} is not what the types say; \
         PAPERCLIP_UPDATE_GOLDEN=1 cargo test -p paperclip-crds writes it anew"
    );
}

#[test]
fn chart_holds_the_definitions_printed_from_the_types() {
    let printed = paperclip_crds::yaml().unwrap();
    assert_golden("charts/paperclip-crds/templates/crds.yaml", &printed);
}

#[test]
fn documentation_lists_conditions_and_reasons_of_the_types() {
    assert_golden("docs/conditions.md", &paperclip_crds::docs::conditions());
}

#[test]
fn every_word_is_found_by_its_name_and_means_something() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.name()), Some(*reason));
        assert!(reason.meaning().ends_with('.'), "{reason}");
    }
    for condition in ConditionType::ALL {
        assert_eq!(ConditionType::from_name(condition.name()), Some(*condition));
        assert!(condition.meaning().ends_with('.'), "{condition}");
        assert!(condition.statuses().ends_with('.'), "{condition}");
    }
    assert_eq!(Reason::from_name("Whatever"), None);
}

#[test]
fn every_schema_is_structural_where_it_is_easily_broken() {
    for definition in paperclip_crds::definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        walk(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    }
}

fn walk(schema: &Value) {
    let Some(object) = schema.as_object() else {
        return;
    };
    assert!(!object.contains_key("$ref"), "{schema}");
    assert!(
        !(object.contains_key("properties") && object.contains_key("additionalProperties")),
        "{schema}"
    );
    for alternative in object
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        assert!(alternative.get("type").is_none(), "{schema}");
    }
    for (_, property) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        walk(property);
    }
    if let Some(items) = object.get("items") {
        walk(items);
    }
}
