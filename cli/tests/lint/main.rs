//! `lint` as a user runs it, and each rule of the kinds with what breaks it and what keeps it.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use kubectl_paperclip::lint::{self, File, Finding};
use serde_json::{Value, json};

/// Runs the program in the folder of the fixtures, with no cluster to ask.
fn lint(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lint"))
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .arg("lint")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it reads is judged by what it says.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What was printed, and how it ended.
fn told(output: &Output) -> String {
    format!(
        "{}{}exit {}\n",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap()
    )
}

#[test]
fn what_is_right_passes_and_other_kinds_are_counted() {
    insta::assert_snapshot!("good", told(&lint(&["good.yaml"], "")));
}

#[test]
fn what_the_api_server_refuses_is_found_with_its_line() {
    insta::assert_snapshot!("schema", told(&lint(&["schema.yaml"], "")));
}

#[test]
fn what_the_operator_refuses_is_found_with_its_reason() {
    insta::assert_snapshot!("operator", told(&lint(&["operator.yaml"], "")));
}

#[test]
fn text_that_is_no_yaml_is_a_finding() {
    insta::assert_snapshot!("broken", told(&lint(&["broken.yaml"], "")));
}

#[test]
fn findings_are_fields_as_json() {
    let output = lint(
        &["-o", "json", "-"],
        &plugin(json!({"name": "Tea"}), json!({})).to_string(),
    );
    insta::assert_snapshot!("json", told(&output));
}

#[test]
fn a_folder_is_all_its_files() {
    let output = lint(&["."], "");
    let text = told(&output);
    for file in ["broken.yaml:", "operator.yaml:", "schema.yaml:"] {
        assert!(text.contains(file), "{text}");
    }
    assert!(!text.contains("good.yaml:"), "{text}");
    assert!(
        text.contains("7 checked, 1 of other kinds passed over"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_not_there_is_no_finding() {
    let output = lint(&["gone.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told(&output).contains("read gone.yaml"),
        "{}",
        told(&output)
    );
}

#[test]
fn every_example_passes() {
    let output = lint(&["../../../examples"], "");
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn an_object_without_a_namespace_is_in_the_one_of_the_option() {
    let host = json!({"apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipHost",
        "metadata": {"name": "main", "namespace": "paperclip"}, "spec": {"service": {"name": "s"}}});
    let plugin = plugin(
        json!({"name": "tea"}),
        json!({"host": {"name": "main", "namespace": "paperclip"}}),
    );
    let text = format!("{host}\n---\n{plugin}\n");
    assert!(lint(&["-"], &text).status.success());
    assert!(lint(&["-", "-n", "paperclip"], &text).status.success());
    let refused = told(&lint(&["-", "-n", "shop"], &text));
    assert!(refused.contains("(HostForbidden)"), "{refused}");
}

#[test]
fn a_name_is_required_unless_it_is_generated() {
    let nameless = findings(&plugin(json!({}), json!({})));
    assert_eq!(nameless.len(), 1, "{nameless:?}");
    assert_eq!(nameless[0].field, "metadata.name");
    assert_eq!(
        findings(&plugin(json!({"generateName": "tea-"}), json!({}))),
        []
    );
}

#[test]
fn what_yaml_takes_for_no_text_is_told_where_it_stands() {
    let text = "apiVersion: plugins.paperclip.ing/v1alpha1\nkind: PaperclipPlugin\nmetadata:\n  name: tea\n  labels:\n    ok: fine\n    spicy: no\nspec:\n  source: {npm: {package: tea, version: 1.0}}\n  host: {name: main}\n";
    insta::assert_snapshot!("no_text", told(&lint(&["-"], text)));
}

/// A plugin that is right, but for these fields.
fn plugin(metadata: Value, spec: Value) -> Value {
    let mut plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin", "metadata": metadata,
        "spec": {"source": {"npm": {"package": "tea", "version": "1.0.0"}}, "host": {"name": "main"}},
    });
    merge(&mut plugin["spec"], spec);
    plugin
}

fn host(metadata: Value, spec: Value) -> Value {
    let mut host = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipHost", "metadata": metadata,
        "spec": {"service": {"name": "paperclip"}},
    });
    merge(&mut host["spec"], spec);
    host
}

fn merge(object: &mut Value, more: Value) {
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
}

fn findings(object: &Value) -> Vec<Finding> {
    let file = File {
        name: "-".into(),
        text: object.to_string(),
    };
    lint::check(&[file], None).findings
}

/// A rule of a kind, with an object that breaks nothing else and one that keeps it.
struct Case {
    kind: &'static str,
    rule: &'static str,
    breaks: Vec<Value>,
    keeps: Vec<Value>,
}

/// A plugin manifest that Paperclip installs.
fn whole_manifest() -> Value {
    json!({
        "id": "acme.tea", "apiVersion": 1, "version": "1.0.0", "displayName": "Tea",
        "description": "Makes tea.", "author": "Acme", "categories": ["automation"],
        "capabilities": ["agent.tools.register"], "entrypoints": {"worker": "./worker.js"},
    })
}

#[test]
fn a_plugin_of_one_file_needs_a_manifest_that_paperclip_installs() {
    let of = |manifest: Value| {
        let source = json!({"configMap": {"name": "tea", "key": "worker.js"}});
        plugin(
            json!({"name": "tea"}),
            json!({"source": source, "manifest": manifest}),
        )
    };
    assert_eq!(findings(&of(whole_manifest())), []);
    let mut outside = whole_manifest();
    outside["entrypoints"]["worker"] = "../worker.js".into();
    let found = findings(&of(outside));
    assert_eq!(found[0].reason, "ManifestInvalid");
    assert!(found[0].found.contains("../worker.js"), "{found:?}");
    let mut unknown = whole_manifest();
    unknown["categories"] = json!(["tea"]);
    let found = findings(&of(unknown));
    assert_eq!(found[0].field, "spec.manifest.categories[0]");
}

#[test]
fn places_and_hashes_of_sources_are_refused_by_field() {
    let of = |source: Value| findings(&plugin(json!({"name": "tea"}), json!({ "source": source })));
    let hash = format!("sha512-{}Q==", "A".repeat(85));
    let http = |url: &str, integrity: &str| json!({"http": {"url": url, "integrity": integrity}});
    let npm = |registry: &str| json!({"npm": {"package": "tea", "version": "1.0.0", "registry": registry}});
    let oci = |repository: &str| json!({"oci": {"repository": repository, "tag": "v1"}});
    for source in [
        http("https://files.example:8443/@acme/tea-1.0.0.tgz", &hash),
        npm("https://npm.acme.example/private/"),
        npm("http://localhost:4873"),
        oci("registry.example/tea"),
        oci("10.0.0.1:5000/a/b_c/d--e"),
    ] {
        assert_eq!(of(source.clone()), [], "{source}");
    }
    let url = "https://files.example/tea.tgz";
    for (source, field) in [
        (http(url, "sha512-AAAA"), "spec.source.http.integrity"),
        (
            http(url, &hash.replace("Q==", "B==")),
            "spec.source.http.integrity",
        ),
        (
            http(url, &hash.replace("sha512", "sha1")),
            "spec.source.http.integrity",
        ),
        (
            http("https://files.example/tea.tgz?token=s", &hash),
            "spec.source.http.url",
        ),
        (
            http("https://me:s@files.example/tea.tgz", &hash),
            "spec.source.http.url",
        ),
        (http("file:///tea.tgz", &hash), "spec.source.http.url"),
        (npm("https://me:s@npm.example/"), "spec.source.npm.registry"),
        (npm("npm.example"), "spec.source.npm.registry"),
        (oci("registry.example"), "spec.source.oci.repository"),
        (
            oci("https://registry.example/tea"),
            "spec.source.oci.repository",
        ),
        (oci("registry.example/Tea"), "spec.source.oci.repository"),
        (oci("registry.example/../tea"), "spec.source.oci.repository"),
    ] {
        let found = of(source.clone());
        assert!(
            found.iter().any(|one| one.to_string().contains(field)),
            "{source}: {found:?}"
        );
    }
}

#[test]
fn limits_and_resources_out_of_bounds_are_refused_by_field() {
    let of = |spec: Value| findings(&plugin(json!({"name": "tea"}), spec));
    let limits = json!({
        "callTimeoutSeconds": 60, "jobTimeoutSeconds": 600, "concurrency": 1, "queue": 0,
        "rate": {"callsPerSecond": 5}, "payloadBytes": 134_217_728, "restarts": {},
    });
    let amounts = json!({"cpu": "250m", "memory": "1Gi"});
    let resources = json!({"requests": amounts, "limits": amounts});
    let worker = json!({"replicas": 3, "resources": resources});
    assert_eq!(of(json!({"limits": limits, "worker": worker})), []);
    for (spec, field) in [
        (json!({"worker": {"replicas": 0}}), "spec.worker.replicas"),
        (json!({"worker": {"replicas": 101}}), "spec.worker.replicas"),
        (
            json!({"worker": {"resources": {"limits": {"memory": "512"}}}}),
            "spec.worker.resources.limits.memory",
        ),
        (
            json!({"worker": {"resources": {"requests": {"cpu": "0.5"}}}}),
            "spec.worker.resources.requests.cpu",
        ),
        (
            json!({"limits": {"concurrency": 0}}),
            "spec.limits.concurrency",
        ),
        (json!({"limits": {"queue": -1}}), "spec.limits.queue"),
        (
            json!({"limits": {"rate": {}}}),
            "spec.limits.rate.callsPerSecond",
        ),
        (
            json!({"limits": {"payloadBytes": 134_217_729}}),
            "spec.limits.payloadBytes",
        ),
        (
            json!({"limits": {"callTimeoutSeconds": 0}}),
            "spec.limits.callTimeoutSeconds",
        ),
    ] {
        let found = of(spec.clone());
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert_eq!(found[0].field, field);
    }
}

/// A policy that is right, but for what it requires.
fn policy(require: Value) -> Value {
    json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipTrustPolicy",
        "metadata": {"name": "signed"}, "spec": {"require": [require]},
    })
}

/// The rules of trust policies.
fn trust_cases() -> Vec<Case> {
    let case = |rule, breaks: Vec<Value>, keeps: Vec<Value>| Case {
        kind: "PaperclipTrustPolicy",
        rule,
        breaks,
        keeps,
    };
    let of = |namespaces: Value| {
        let mut policy = policy(json!({"cosign": {"key": "k"}}));
        policy["spec"]["match"] = json!({ "namespaces": namespaces });
        policy
    };
    let identity = |more: Value| {
        let mut identity = json!({"issuer": "https://issuer.example", "identity": "a"});
        merge(&mut identity, more);
        policy(json!({ "npmProvenance": identity }))
    };
    let from = json!({"name": "keys", "key": "keys.json"});
    let keys = json!([{"keyid": "a", "key": "k"}]);
    let nobody = json!({"npmProvenance": {"issuer": "https://issuer.example"}});
    vec![
        case(
            "has(self.names) || has(self.labels)",
            vec![of(json!({}))],
            vec![
                of(json!({"names": ["shop"]})),
                of(json!({"labels": {"a": "b"}})),
            ],
        ),
        case(
            "(has(self.npmSignature) ? 1 : 0) + (has(self.npmProvenance) ? 1 : 0) + (has(self.cosign) ? 1 : 0) == 1",
            vec![
                policy(json!({})),
                policy(json!({"cosign": {"key": "k"}, "npmSignature": {"keys": keys}})),
            ],
            vec![policy(json!({"cosign": {"key": "k"}}))],
        ),
        case(
            "has(self.keys) != has(self.keysFrom)",
            vec![
                policy(json!({"npmSignature": {}})),
                policy(json!({"npmSignature": {"keys": keys, "keysFrom": from}})),
            ],
            vec![
                policy(json!({"npmSignature": {"keys": keys}})),
                policy(json!({"npmSignature": {"keysFrom": from}})),
            ],
        ),
        case(
            "has(self.identity) != has(self.identityRegexp)",
            vec![policy(nobody), identity(json!({"identityRegexp": "a"}))],
            vec![identity(json!({}))],
        ),
        case(
            "has(self.inline) != has(self.configMap)",
            vec![
                identity(json!({"trustRoot": {}})),
                identity(json!({"trustRoot": {"inline": "{}", "configMap": from}})),
            ],
            vec![identity(json!({"trustRoot": {"inline": "{}"}}))],
        ),
        case(
            "has(self.key) != has(self.keyless)",
            vec![policy(json!({"cosign": {}}))],
            vec![policy(json!({"cosign": {"key": "k"}}))],
        ),
    ]
}

fn cases() -> Vec<Case> {
    let secret = |more: Value| {
        let mut secret = json!({"name": "a", "secretRef": {"name": "s", "key": "k"}});
        merge(&mut secret, more);
        plugin(json!({"name": "tea"}), json!({"secrets": [secret]}))
    };
    let allowed = |allowed: Value| {
        host(
            json!({"name": "main"}),
            json!({"allowedNamespaces": allowed}),
        )
    };
    let npm = |npm: Value| plugin(json!({"name": "tea"}), json!({"source": {"npm": npm}}));
    let oci = |more: Value| {
        let mut oci = json!({"repository": "registry.example:5000/plugins/tea"});
        merge(&mut oci, more);
        plugin(json!({"name": "tea"}), json!({"source": {"oci": oci}}))
    };
    let one_file = |more: Value| {
        let mut spec = json!({"source": {"configMap": {"name": "tea", "key": "worker.js"}}});
        merge(&mut spec, more);
        plugin(json!({"name": "tea"}), spec)
    };
    let replicas = |strategy: &str, worker: Value| {
        let spec = json!({"upgrade": {"strategy": strategy}, "worker": worker});
        plugin(json!({"name": "tea"}), spec)
    };
    let label = "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$')";
    let (long, longest) = ("a".repeat(51), "a".repeat(50));
    vec![
        Case {
            kind: "PaperclipPlugin",
            rule: label,
            breaks: vec![
                plugin(json!({"name": long}), json!({})),
                plugin(json!({"name": "tea.pot"}), json!({})),
            ],
            keeps: vec![plugin(json!({"name": longest}), json!({}))],
        },
        Case {
            kind: "PaperclipPlugin",
            rule: "self.use != 'Value' || has(self.configPath)",
            breaks: vec![secret(json!({"use": "Value"}))],
            keeps: vec![
                secret(json!({})),
                secret(json!({"use": "Value", "configPath": "/a"})),
                secret(json!({"use": "Reference"})),
            ],
        },
        Case {
            kind: "PaperclipPlugin",
            rule: "has(self.version) != has(self.range)",
            breaks: vec![
                npm(json!({"package": "tea"})),
                npm(json!({"package": "tea", "version": "1.0.0", "range": "^1.0.0"})),
            ],
            keeps: vec![
                npm(json!({"package": "tea", "version": "1.0.0"})),
                npm(json!({"package": "tea", "range": "latest"})),
            ],
        },
        Case {
            kind: "PaperclipPlugin",
            rule: "has(self.tag) != has(self.digest)",
            breaks: vec![
                oci(json!({})),
                oci(json!({"tag": "v1", "digest": format!("sha256:{}", "a".repeat(64))})),
            ],
            keeps: vec![
                oci(json!({"tag": "v1", "pullSecret": "pull"})),
                oci(json!({"digest": format!("sha256:{}", "a".repeat(64))})),
            ],
        },
        Case {
            kind: "PaperclipPlugin",
            rule: "!has(self.spec.source.configMap) || has(self.spec.manifest)",
            breaks: vec![one_file(json!({}))],
            keeps: vec![one_file(json!({"manifest": whole_manifest()}))],
        },
        Case {
            kind: "PaperclipPlugin",
            rule: "self.spec.upgrade.strategy != 'Replace' || !has(self.spec.worker) || self.spec.worker.replicas == 1",
            breaks: vec![replicas("Replace", json!({"replicas": 2}))],
            keeps: vec![
                replicas("Replace", json!({})),
                replicas("Replace", json!({"replicas": 1})),
                replicas("Overlap", json!({"replicas": 2})),
            ],
        },
        Case {
            kind: "PaperclipHost",
            rule: label,
            breaks: vec![host(json!({"name": "main-"}), json!({}))],
            keeps: vec![host(json!({"name": "m"}), json!({}))],
        },
        Case {
            kind: "PaperclipHost",
            rule: "self.from == 'Names' ? has(self.names) && size(self.names) > 0 : !has(self.names)",
            breaks: vec![
                allowed(json!({"from": "Names"})),
                allowed(json!({"from": "Names", "names": []})),
                allowed(json!({"from": "All", "names": ["shop"]})),
                allowed(json!({"names": ["shop"]})),
            ],
            keeps: vec![
                allowed(json!({})),
                allowed(json!({"from": "All"})),
                allowed(json!({"from": "Names", "names": ["shop"]})),
            ],
        },
    ]
}

/// Each rule of a schema, with its message.
fn rules(schema: &Value, found: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = |field: &str| rule[field].as_str().unwrap().to_owned();
        found.push((text("rule"), text("message")));
    }
    let below = schema["properties"].as_object().into_iter().flatten();
    for schema in below.map(|(_, schema)| schema) {
        rules(schema, found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            rules(&schema[inner], found);
        }
    }
}

#[test]
fn every_rule_of_the_kinds_people_write_is_run() {
    let mut cases = cases();
    cases.extend(trust_cases());
    let mut checked = BTreeSet::new();
    for definition in paperclip_crds::definitions() {
        let kind = definition.spec.names.kind.clone();
        if kind == "PaperclipPluginRevision" {
            continue;
        }
        let schema = &json!(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        rules(schema, &mut found);
        for (rule, message) in found {
            let case = cases
                .iter()
                .find(|case| case.kind == kind && case.rule == rule);
            let case = case.unwrap_or_else(|| panic!("{kind}: no case for the rule {rule}"));
            for object in &case.breaks {
                let findings = findings(object);
                assert_eq!(findings.len(), 1, "{object}: {findings:?}");
                assert_eq!(findings[0].wanted, message, "{object}");
                assert_eq!(findings[0].reason, "Invalid");
            }
            for object in &case.keeps {
                assert_eq!(findings(object), [], "{object}");
            }
            checked.insert((kind.clone(), rule));
        }
    }
    assert_eq!(checked.len(), cases.len(), "a case has no rule any more");
}

#[test]
fn a_rule_on_a_change_says_nothing_of_a_new_object() {
    // The one rule on a change stands in a kind that people do not write, so it is passed over.
    let revision =
        json!({"apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPluginRevision"});
    let file = File {
        name: "-".into(),
        text: revision.to_string(),
    };
    assert_eq!(lint::check(&[file], None).passed_over, 1);
}

#[test]
fn the_words_for_a_source_are_those_of_the_packing_request() {
    use paperclip_artifact_format::platform::Platforms;
    use paperclip_packing_api::request::{PackRequest, StoreEndpoints};
    let broken = plugin(
        json!({"name": "tea"}),
        json!({"source": {"npm": {"package": "tea", "version": "1.2.3-a..b"}}}),
    );
    let finding = &findings(&broken)[0];
    let request = PackRequest {
        registry: "https://registry.example".into(),
        package: "tea".into(),
        version: "1.2.3-a..b".into(),
        platforms: Platforms::default(),
        store: StoreEndpoints {
            read: "s:1".into(),
            push: "s:2".into(),
            plain_http: false,
        },
        repository: "plugins/tea".into(),
        ..PackRequest::default()
    };
    let said = request.validate().unwrap_err().to_string();
    assert!(
        said.ends_with(&format!("wanted {}", finding.wanted)),
        "{said}\n{finding}"
    );
}
