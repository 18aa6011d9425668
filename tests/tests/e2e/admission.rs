//! What the API server refuses before anything happens.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kube::{
    Client, Error,
    api::{PostParams, Request},
    core::{Status, response::StatusCause},
};
use serde_json::{Value, json};

use crate::support::{Namespace, cluster};

/// Fields that the API server finds at fault in a plugin that is created without effect, and
/// what it says of each: an empty field is the object as a whole. None when it takes the plugin.
pub async fn refused_fields(
    client: &Client,
    namespace: &str,
    plugin: &Value,
) -> Result<BTreeMap<String, String>> {
    let Some(refusal) = refusal_of(client, namespace, plugin, "Strict").await? else {
        return Ok(BTreeMap::new());
    };
    let unknown = refusal.message.split("unknown field \"").skip(1);
    let unknown = unknown.filter_map(|rest| rest.split_once('"'));
    let mut fields: BTreeMap<String, String> = unknown
        .map(|(field, _)| (field.to_owned(), "unknown field".to_owned()))
        .collect();
    // Where a field is unknown nothing else was looked at.
    let refusal = match fields.is_empty() {
        true => Some(refusal),
        false => refusal_of(client, namespace, plugin, "Ignore").await?,
    };
    let details = refusal
        .iter()
        .filter_map(|refusal| refusal.details.as_ref());
    let causes = details.flat_map(|details| &details.causes);
    fields.extend(causes.filter_map(fault));
    ensure!(!fields.is_empty(), "refused without a field: {refusal:?}");
    Ok(fields)
}

async fn refusal_of(
    client: &Client,
    namespace: &str,
    plugin: &Value,
    validation: &str,
) -> Result<Option<Box<Status>>> {
    let path =
        format!("/apis/plugins.paperclip.ing/v1alpha1/namespaces/{namespace}/paperclipplugins");
    let without_effect = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let body = serde_json::to_vec(plugin)?;
    let mut request = Request::new(path).create(&without_effect, body)?;
    *request.uri_mut() = format!("{}&fieldValidation={validation}", request.uri()).parse()?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(Error::Api(refusal)) => Ok(Some(refusal)),
        Err(error) => Err(error).context("create a plugin without effect"),
    }
}

/// The field of a cause, and what is said of it.
fn fault(cause: &StatusCause) -> Option<(String, String)> {
    let StatusCause { message, field, .. } = cause;
    // The engine of rules saying that the schema has found something, which has a field there.
    let of_the_rules = [
        "some validation rules were not checked",
        "Checked value must be of type",
    ];
    if of_the_rules.iter().any(|words| message.contains(words)) {
        return None;
    }
    // Of a union, the API server names the first member, or names the union in its sentence.
    let field = match field.as_str() {
        "spec.source.npm" if message == "Required value" => "spec.source",
        "<nil>" if message.contains("\"spec.source\" must validate one") => "spec.source",
        "<nil>" => "",
        field => field,
    };
    Some((field.to_owned(), message.clone()))
}

/// Applies a spec and returns what the API server said against it.
fn refusal(namespace: &Namespace, spec: &str) -> Result<String> {
    let yaml = format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1\nkind: PaperclipPlugin\nmetadata: {{name: refused}}\nspec: {spec}\n"
    );
    match namespace.apply(&yaml) {
        Ok(answer) => anyhow::bail!("was accepted: {answer}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[test]
fn a_spec_without_a_source_is_refused_by_field() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-none")?;
    let said = refusal(&namespace, "{source: {}, host: {name: main}}")?;
    ensure!(said.contains("spec.source"), "{said}");
    Ok(())
}

#[tokio::test]
async fn two_sources_are_refused_by_field_and_each_of_them_alone_is_not() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-two")?;
    let client = cluster().client().await?;
    let npm = json!({"package": "a", "version": "1.0.0"});
    let oci = json!({"repository": "registry.example/a", "tag": "v1"});
    let fields = async |source: Value| {
        let spec = json!({"source": source, "host": {"name": "main"}});
        let plugin = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": "two"}, "spec": spec,
        });
        refused_fields(&client, namespace.name(), &plugin).await
    };
    for source in [json!({"npm": npm}), json!({"oci": oci})] {
        let refused = fields(source).await?;
        ensure!(refused.is_empty(), "{refused:?}");
    }
    let refused = fields(json!({"npm": npm, "oci": oci})).await?;
    let field = refused.get("spec.source").context("refused by field")?;
    ensure!(field.contains("one and only one schema"), "{refused:?}");
    ensure!(refused.len() == 1, "{refused:?}");
    Ok(())
}

#[test]
fn a_tarball_without_a_sound_hash_or_with_a_query_is_refused_by_field() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-tarball")?;
    let hash = format!("sha512-{}==", "A".repeat(86));
    for (url, integrity, field) in [
        ("https://files.example/x.tgz", "sha512-AAAA", "integrity"),
        ("https://files.example/x.tgz", "sha1-AAAA", "integrity"),
        ("https://files.example/x.tgz?token=s", hash.as_str(), "url"),
        ("https://me:s@files.example/x.tgz", hash.as_str(), "url"),
        ("ftp://files.example/x.tgz", hash.as_str(), "url"),
    ] {
        let source = format!("{{http: {{url: '{url}', integrity: '{integrity}'}}}}");
        let spec = format!("{{source: {source}, host: {{name: main}}}}");
        let said = refusal(&namespace, &spec)?;
        ensure!(
            said.contains(&format!("spec.source.http.{field}")),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn an_image_is_named_by_exactly_one_of_tag_and_digest() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-image")?;
    let digest = format!("sha256:{}", "a".repeat(64));
    for names in [String::new(), format!(", tag: v1, digest: '{digest}'")] {
        let source = format!("{{oci: {{repository: 'registry.example/x'{names}}}}}");
        let spec = format!("{{source: {source}, host: {{name: main}}}}");
        let said = refusal(&namespace, &spec)?;
        ensure!(said.contains("exactly one of tag and digest"), "{said}");
    }
    let bad = "{source: {oci: {repository: registry.example, tag: v1}}, host: {name: main}}";
    let said = refusal(&namespace, bad)?;
    ensure!(said.contains("spec.source.oci.repository"), "{said}");
    Ok(())
}

#[test]
fn a_version_range_is_refused_by_field() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-range")?;
    let said = refusal(
        &namespace,
        "{source: {npm: {package: a, version: ^1.0.0}}, host: {name: main}}",
    )?;
    ensure!(said.contains("spec.source.npm.version"), "{said}");
    Ok(())
}
