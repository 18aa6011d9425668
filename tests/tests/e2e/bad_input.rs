//! Bad input of every kind, each applied as a user would: it is called by its own name, in
//! the words of what refused it, within half a minute, by one event; and a healthy plugin
//! beside it does not notice.
//!
//! What can be put right from outside is, and the plugin then works by itself.
//!
//! What the API server itself refuses is in `admission`; manifests that break a rule, one of
//! each class, are in `manifests`. Here are three of them that come in a package.

mod case;
mod neighbour;
mod platform;
mod release;

use anyhow::{Result, ensure};
use serde_json::json;

use self::{
    case::{Case, Trial, check_waits, judge, pack_beforehand, plugin},
    neighbour::Neighbour,
    platform::{Cordon, Cut, Policy, WrongValues, close_by_quota},
    release::{Release, VERSION, publish_all},
};
use crate::support::{Namespace, PLATFORM_NAMESPACE, WARM, eventually, get, kubectl, paperclip};

const NAMESPACE: &str = "e2e-bad-input";
const NAMESPACE_WITH_QUOTA: &str = "e2e-bad-input-quota";
/// A sound package, whose pods do not come about for one reason or another.
const SOUND: &str = "sound";

const RELEASES: [Release; 16] = [
    release(neighbour::NAME, &[]),
    release(SOUND, &[]),
    release("quota", &[]),
    release("refused", &[]),
    release("no-manifest", &[("\"manifest\": \"./manifest.js\",", "")]).without(&["manifest.js"]),
    release("no-worker", &[]).without(&["worker.js"]),
    release(
        "shape",
        &[(
            "categories: [\"automation\"]",
            "categories: [\"gardening\"]",
        )],
    ),
    release("capability", &[("\"agent.tools.register\", ", "")]),
    release(
        "twice",
        &[(
            "tools: [",
            "tools: [{ name: \"record\", displayName: \"R\", description: \"R\", parametersSchema: { type: \"object\" } },",
        )],
    ),
    release("exit", &[(SERVE, "BEHAVIOUR = \"exit\"")]),
    release("throw", &[(SERVE, "BEHAVIOUR = \"error\"")]),
    release("hang", &[(SERVE, "BEHAVIOUR = \"hang\"")]),
    release("noise", &[(SERVE, "BEHAVIOUR = \"noise\"")]),
    release("secret", STRICT),
    release("schema", STRICT),
    release("validate", STRICT),
];
/// Makes a package particular about its config.
const STRICT: &[(&str, &str)] = &[
    (SERVE, "BEHAVIOUR = \"strict\""),
    (
        "tools: [",
        "instanceConfigSchema: { type: \"object\", properties: { shelf: { type: \"string\" } } }, tools: [",
    ),
];
/// Packages whose fault is not in the package itself: they are in the store before a plugin of them
/// is applied, so that the time until the fault is named has no packing in it.
const SOUND_PACKAGES: [&str; 10] = [
    SOUND, "quota", "refused", "exit", "throw", "hang", "noise", "secret", "schema", "validate",
];
/// The plugin whose image cannot be pulled until the platform's values are right again.
const IMAGE: &str = "image";
const SERVE: &str = "BEHAVIOUR = \"serve\"";

const fn release(name: &'static str, edits: &'static [(&'static str, &'static str)]) -> Release {
    Release {
        name,
        edits,
        without: &[],
    }
}

const OTHER_VERSION: &str = "Use another version of the package";

/// What the registry does not have, or a package lacks.
fn missing() -> Vec<Case> {
    let unknown = Case::new(
        "nobody",
        "PackageNotFound",
        &["paperclip-plugin-test-nobody", "Not Found"],
        "Correct spec.source to a package",
    );
    let unknown_version = Case::new(
        "no-version",
        "VersionNotFound",
        &["No match found for version 9.9.9"],
        "Correct spec.source to a version",
    );
    let unknown_version = Case {
        version: "9.9.9",
        ..unknown_version.of_package(Release::package(SOUND))
    };
    vec![
        unknown,
        unknown_version,
        Case::new(
            "no-manifest",
            "ManifestMissing",
            &["no plugin manifest"],
            OTHER_VERSION,
        ),
        Case::new(
            "no-worker",
            "WorkerFileMissing",
            &["`./worker.js`", "is no file of the package"],
            OTHER_VERSION,
        ),
    ]
}

/// One manifest for each class of rules: of a value, of a feature's capability, of all
/// values together.
fn manifests() -> Vec<Case> {
    let invalid = |name, says| Case::new(name, "ManifestInvalid", says, OTHER_VERSION);
    vec![
        invalid("shape", &["`categories[0]`", "gardening"]),
        invalid(
            "capability",
            &["`tools`", "the capability agent.tools.register"],
        ),
        invalid("twice", &["`tools[1].name`", "each only once"]),
    ]
}

/// A manifest that is another than the one in Git.
fn mismatch() -> Case {
    let case = Case::new(
        "mismatch",
        "ManifestMismatch",
        &["spec.manifest.id", "test.reviewed", "test.sound"],
        "Review what the package says",
    );
    Case {
        spec: json!({"manifest": {"id": "test.reviewed"}}),
        ..case.of_package(Release::package(SOUND))
    }
}

/// A sound package whose pod does not come about.
fn sound(
    name: &'static str,
    reason: &'static str,
    says: &'static [&'static str],
    next: &'static str,
) -> Case {
    Case::new(name, reason, says, next).tried_again()
}

/// A package that would work with another config, or with the Secret that it names.
fn configs() -> Vec<Case> {
    let strict = |name, reason, says, next, spec| Case {
        spec,
        ..Case::new(name, reason, says, next)
    };
    let secret = strict(
        "secret",
        "SecretUnavailable",
        &["nowhere"],
        "kubectl create secret generic nowhere",
        json!({"secrets": [{"name": "token", "secretRef": {"name": "nowhere", "key": "token"}}]}),
    );
    vec![
        secret.tried_again(),
        strict(
            "schema",
            "ConfigInvalid",
            &["shelf", "string"],
            "Correct spec.config",
            json!({"config": {"default": {"shelf": 5}}}),
        ),
        strict(
            "validate",
            "ConfigRejected",
            &["the attic leaks"],
            "Correct spec.config",
            json!({"config": {"default": {"shelf": "attic"}}}),
        ),
    ]
}

/// Packages that are well made, and whose worker does not work.
fn workers() -> Vec<Case> {
    let log = "See its log with kubectl paperclip logs";
    let worker = |name, reason, says| Case::new(name, reason, says, log).tried_again();
    vec![
        worker("exit", "WorkerExited", &["code 7", "the ink has run dry"]),
        worker(
            "throw",
            "InitializeFailed",
            &["the ledger is bound the wrong way round"],
        ),
        worker(
            "hang",
            "InitializeFailed",
            &["did not answer it within 15 s"],
        ),
    ]
}

#[test]
fn bad_input_is_called_by_its_name_and_a_neighbour_does_not_notice() -> Result<()> {
    forget_packings()?;
    publish_all(&RELEASES)?;
    let namespace = Namespace::create(NAMESPACE)?;
    let with_quota = Namespace::create(NAMESPACE_WITH_QUOTA)?;
    close_by_quota(&with_quota)?;
    let _policy = Policy::refusing(NAMESPACE, "refused")?;

    Neighbour::apply(&namespace)?;
    pack_beforehand(NAMESPACE, &SOUND_PACKAGES)?;
    let mut calm = Trial::apply(NAMESPACE, vec![mismatch()])?;
    judge(&calm)?;
    let neighbour = Neighbour::watch(&namespace)?;

    let homeless = no_node_takes_it()?;

    let mut refused = Trial::apply(
        NAMESPACE_WITH_QUOTA,
        vec![sound(
            "quota",
            "QuotaExceeded",
            &["exceeded quota: tight", "limited: pods=0"],
            "Raise the quota",
        )],
    )?;
    refused.extend(Trial::apply(
        NAMESPACE,
        vec![sound(
            "refused",
            "AdmissionRefused",
            &[
                "ValidatingAdmissionPolicy 'e2e-bad-input'",
                "pods need a cost centre",
            ],
            "Have the policy let the pod in",
        )],
    )?);
    // Not all at once: these are packed first, and the time of each would be that of all packings
    // before it.
    refused.extend(Trial::apply(NAMESPACE, missing())?);
    judge(&refused)?;
    calm.extend(refused);
    let invalid = Trial::apply(NAMESPACE, manifests())?;
    judge(&invalid)?;
    calm.extend(invalid);

    let configs = Trial::apply(NAMESPACE, configs())?;
    judge(&configs)?;
    calm.extend(configs);

    workers_fail_and_the_registry_goes(&namespace)?;
    // Nodes are open again, and nobody touched the plugin.
    namespace.wait_ready(homeless.name(), WARM)?;
    homeless.warned_at()?;
    // Its package has one id, which the next plugin of it needs.
    gone(&namespace, homeless.name())?;

    the_platform_has_wrong_values()?;
    namespace.wait_ready(IMAGE, WARM)?;

    calm.iter().try_for_each(Trial::check_calm)?;
    check_waits(NAMESPACE, &calm)?;
    neighbour.check_untouched()
}

/// Deletes a plugin and waits until nothing of it runs.
fn gone(namespace: &Namespace, name: &str) -> Result<()> {
    kubectl(&["delete", "paperclipplugin", name, "-n", namespace.name()])?;
    eventually("its pods to be gone", WARM, || {
        let selector = format!("plugins.paperclip.ing/plugin={name}");
        let pods = get(&["pods", "-n", namespace.name(), "-l", &selector])?;
        ensure!(pods["items"] == json!([]), "{pods}");
        Ok(())
    })
}

/// Removes the Jobs of an earlier run, which stay for two minutes with what they said.
fn forget_packings() -> Result<()> {
    let packer = "app.kubernetes.io/component=packer";
    kubectl(&["delete", "jobs", "-n", PLATFORM_NAMESPACE, "-l", packer]).map(drop)
}

/// With every node closed. Once they are open again it works by itself.
fn no_node_takes_it() -> Result<Trial> {
    let _cordon = Cordon::all()?;
    let case = sound(
        "homeless",
        "Unschedulable",
        &["0/2 nodes are available", "2 node(s) were unschedulable"],
        "Make room on a node",
    );
    let case = case.of_package(Release::package(SOUND));
    let mut trials = Trial::apply(NAMESPACE, vec![case])?;
    judge(&trials)?;
    Ok(trials.remove(0))
}

/// Workers fail at their start, all but one, while the registry is gone for what is to be
/// packed.
fn workers_fail_and_the_registry_goes(namespace: &Namespace) -> Result<()> {
    let noise = plugin("noise", &Release::package("noise"), VERSION, &json!({}));
    namespace.apply(&noise.to_string())?;
    let workers = Trial::apply(NAMESPACE, workers())?;

    let cut = Cut::registry()?;
    let down = Case::new(
        "down",
        "RegistryUnavailable",
        &["ECONNREFUSED"],
        "See the place that spec.source names",
    );
    let down = Trial::apply(NAMESPACE, vec![down.tried_again()])?;
    judge(&workers)?;
    judge(&down)?;
    workers
        .iter()
        .chain(&down)
        .try_for_each(Trial::check_calm)?;
    drop(cut);

    // Says its say on standard output, where it has no business, and works all the same.
    namespace.wait_ready("noise", WARM)?;
    let log = paperclip(NAMESPACE, &["logs", "noise"])?;
    ensure!(log.contains("opening the book"), "{log}");
    Ok(())
}

/// A wrong credential and a wrong image of the platform concern what is new, not what serves.
fn the_platform_has_wrong_values() -> Result<()> {
    let _values = WrongValues::install()?;
    let denied = Case::new(
        "denied",
        "RegistryAccessDenied",
        &["401 Unauthorized", "@private/ledger"],
        "Correct the Secret that spec.source names, or the npmrc",
    )
    .of_package("@private/ledger");
    let image = sound(
        IMAGE,
        "ImageUnavailable",
        &["there-is-none", "not found"],
        "See the platform's values global.imageRegistry",
    );
    let image = image.of_package(Release::package(SOUND));
    let wrong = Trial::apply(NAMESPACE, vec![denied.tried_again(), image])?;
    judge(&wrong)?;
    wrong.iter().try_for_each(Trial::check_calm)
}
