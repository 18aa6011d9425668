//! Passes over a trust policy: whether it can be checked, and for how many plugins it is.

use paperclip_operator::trust_policy::{origin, reconcile};
use paperclip_testkit::{ApiServer, fixtures};
use serde_json::{Value, json};

use crate::operator;

const POLICY: &str = "/apis/plugins.paperclip.ing/v1alpha1/papercliptrustpolicies/signed";

async fn pass(require: Value) -> Value {
    let server = ApiServer::default();
    let context = operator::context(&server).await;
    server.put(
        "/apis/plugins.paperclip.ing/v1alpha1/paperclipplugins/any",
        &fixtures::plugin(),
    );
    let policy = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipTrustPolicy",
        "metadata": {"name": "signed", "generation": 3},
        "spec": {"require": require},
    });
    server.put(POLICY, &policy);
    let policy = serde_json::from_value(policy).unwrap();
    reconcile(&policy, &context).await.unwrap();
    server.object(POLICY)["status"].clone()
}

#[tokio::test]
async fn what_names_its_package_itself_is_of_no_package() {
    let context = operator::context(&ApiServer::default()).await;
    let of = |source: Value| {
        let mut plugin = fixtures::plugin();
        plugin.spec.source = serde_json::from_value(source).unwrap();
        origin(&context, &plugin)
    };
    let npm =
        json!({"npm": {"package": "a", "version": "1.0.0", "registry": "https://own.example"}});
    assert_eq!(of(npm), ("a".into(), "https://own.example".into()));
    let url = "https://files.example:8443/@acme/tea-1.0.0.tgz";
    let http = json!({"http": {"url": url, "integrity": "sha512-x"}});
    assert_eq!(
        of(http),
        (String::new(), "https://files.example:8443".into())
    );
    let oci = json!({"oci": {"repository": "oci.example/plugins/tea", "tag": "v1"}});
    assert_eq!(of(oci), (String::new(), "oci.example/plugins/tea".into()));
}

#[tokio::test]
async fn policy_that_can_be_checked_is_ready_and_counts_its_plugins() {
    let status = pass(json!([])).await;
    assert_eq!(status["conditions"][0]["status"], "True");
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(status["plugins"], 1);
}

#[tokio::test]
async fn keys_patterns_trust_roots_and_references_that_are_none_are_told() {
    let identity = json!({"issuer": "https://i.example", "identityRegexp": "("});
    let root = json!({"issuer": "https://i.example", "identity": "a",
        "trustRoot": {"inline": "nonsense"}});
    let cases = [
        (
            json!({"npmSignature": {"keys": [{"keyid": "a", "key": "b"}]}}),
            "PolicyInvalid",
        ),
        (json!({"npmProvenance": identity}), "PolicyInvalid"),
        (json!({"npmProvenance": root}), "PolicyInvalid"),
        (json!({"cosign": {"key": "none"}}), "PolicyInvalid"),
        (
            json!({"npmSignature": {"keysFrom": {"name": "keys", "key": "k"}}}),
            "ReferenceMissing",
        ),
    ];
    for (requirement, reason) in cases {
        let status = pass(json!([requirement])).await;
        let words: Vec<_> = [0, 1]
            .iter()
            .map(|at| {
                let found = &status["conditions"][*at];
                format!("{}={} {}", found["type"], found["status"], found["reason"])
            })
            .map(|words| words.replace('"', ""))
            .collect();
        let wanted = [
            format!("Ready=False {reason}"),
            format!("Stalled=True {reason}"),
        ];
        assert_eq!(words, wanted);
    }
}
