//! `kubectl paperclip lint` against the API server: both take and refuse the same resources,
//! by the same fields.

use std::{collections::BTreeSet, io::Write as _};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    admission::refused_fields,
    support::{Namespace, cluster, paperclip_command},
};

/// Reasons of findings that the API server has too; the others are the operator's.
const OF_THE_API_SERVER: [&str; 2] = ["Invalid", "BadRequest"];

/// Specs of a plugin, sound and not.
fn specs() -> Vec<Value> {
    let npm = |npm: Value| json!({"source": {"npm": npm}, "host": {"name": "main"}});
    let and = |more: Value| {
        let mut spec = npm(json!({"package": "tea", "version": "1.0.0"}));
        json_patch::merge(&mut spec, &more);
        spec
    };
    let secret = |secret: Value| {
        let mut whole = json!({"name": "a", "secretRef": {"name": "s", "key": "k"}});
        json_patch::merge(&mut whole, &secret);
        and(json!({"secrets": [whole]}))
    };
    let of = |source: Value| json!({"source": source, "host": {"name": "main"}});
    let integrity = format!("sha512-{}==", "A".repeat(86));
    let one_file = json!({"configMap": {"name": "tea", "key": "worker.js"}});
    vec![
        and(json!({})),
        npm(json!({"package": "@a/tea", "range": "^1.0.0", "resolveIntervalSeconds": 600})),
        npm(json!({"package": "tea"})),
        npm(json!({"package": "tea", "version": "1.0.0", "range": "1"})),
        npm(json!({"package": "Tea Pot", "version": "1.0.0"})),
        npm(json!({"package": "tea", "version": "latest"})),
        npm(json!({"package": "tea", "version": "1.0.0", "lock": {"name": "lock"}})),
        npm(json!({"package": "tea", "version": "1.0.0", "tag": "latest"})),
        json!({"source": {}, "host": {"name": "main"}}),
        json!({"source": {"git": {}}, "host": {"name": "main"}}),
        json!({"source": {"npm": {"package": "tea", "version": "1.0.0"}, "oci": {"repository": "oci.example/tea", "tag": "v1"}},
            "host": {"name": "main"}}),
        json!({"source": one_file, "host": {"name": "main"}}),
        json!({"source": {"npm": {"package": "tea", "version": "1.0.0"}}}),
        npm(
            json!({"package": "tea", "version": "1.0.0", "registry": "https://npm.example/",
            "credentialsSecret": "npm"}),
        ),
        npm(
            json!({"package": "tea", "version": "1.0.0", "registry": "https://me:pass@npm.example/"}),
        ),
        of(json!({"http": {"url": "https://files.example/tea.tgz", "integrity": integrity}})),
        of(json!({"http": {"url": "https://files.example/tea.tgz"}})),
        of(
            json!({"http": {"url": "https://files.example/tea.tgz?token=1", "integrity": integrity}}),
        ),
        of(json!({"http": {"url": "https://files.example/tea.tgz", "integrity": "sha1-aaaa"}})),
        of(json!({"oci": {"repository": "oci.example/tea", "tag": "v1"}})),
        of(json!({"oci": {"repository": "oci.example/tea"}})),
        of(json!({"oci": {"repository": "oci.example/tea", "digest": "sha256:1"}})),
        and(json!({"host": {"name": ""}})),
        and(json!({"suspend": "yes"})),
        and(json!({"revisionHistoryLimit": -1})),
        and(json!({"revisionHistoryLimit": 2.5})),
        and(json!({"upgrade": {"strategy": "overlap"}})),
        and(json!({"upgrade": {"strategy": "Replace", "progressDeadlineSeconds": 2}})),
        and(json!({"config": {"default": []}})),
        and(json!({"config": {"default": {"any": ["thing", 1, null]}}})),
        and(json!({"worker": {"replicas": 0}})),
        and(json!({"worker": {"egress": [{"ports": [{"port": 70000}]}]}})),
        secret(json!({})),
        secret(json!({"use": "Value"})),
        secret(json!({"use": "Value", "configPath": "/a"})),
        secret(json!({"secretRef": {"key": null}})),
        secret(json!({"name": "not a name"})),
    ]
}

fn plugin(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": name}, "spec": spec})
}

/// The fields that `lint` finds at fault by the schema and its rules.
fn linted(namespace: &str, file: &str) -> Result<BTreeSet<String>> {
    let output = paperclip_command(namespace, &["-o", "json", "lint", file])?.output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let findings = report["findings"].as_array().context("findings")?;
    let theirs = findings.iter().filter(|finding| {
        OF_THE_API_SERVER.contains(&finding["reason"].as_str().unwrap_or_default())
    });
    let fields = theirs.map(|finding| Ok(finding["field"].as_str().context("field")?.to_owned()));
    fields.collect()
}

/// Fields as both sides name them. For the API server a rule about the name is one about the whole
/// object.
fn comparable(fields: Vec<&String>) -> BTreeSet<&str> {
    let fields = fields.into_iter().map(String::as_str);
    fields
        .map(|field| match field {
            "metadata.name" => "",
            field => field,
        })
        .collect()
}

#[tokio::test]
async fn lint_and_the_api_server_refuse_the_same_by_the_same_fields() -> Result<()> {
    let namespace = Namespace::create("e2e-lint")?;
    let ns = namespace.name();
    let client = cluster().client().await?;
    let mut cases: Vec<Value> = specs().iter().map(|spec| plugin("tea", spec)).collect();
    let sound = specs().swap_remove(0);
    cases.extend(["Tea", "tea.pot", &"a".repeat(51), "tea-1"].map(|name| plugin(name, &sound)));
    let (mut refused, mut differ) = (0, Vec::new());
    for case in &cases {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
        file.write_all(case.to_string().as_bytes())?;
        let path = file.path().to_str().context("a path in UTF-8")?;
        let linted = linted(ns, path)?;
        let theirs = refused_fields(&client, ns, case).await?;
        let [ours, fields] = [linted.iter().collect(), theirs.keys().collect()].map(comparable);
        refused += usize::from(!theirs.is_empty());
        if ours != fields {
            differ.push(format!("{case}: lint {linted:?}, API server {theirs:?}"));
        }
    }
    println!("lint: {} resources, {refused} refused by both", cases.len());
    ensure!(differ.is_empty(), "{}", differ.join("\n"));
    ensure!(refused > 15 && refused < cases.len(), "{refused}");
    Ok(())
}
