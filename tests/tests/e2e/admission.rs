//! What the API server refuses before anything happens.

use anyhow::{Result, ensure};

use crate::support::Namespace;

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

#[test]
fn two_sources_are_refused() -> Result<()> {
    let namespace = Namespace::create("e2e-admission-two")?;
    let said = refusal(
        &namespace,
        "{source: {npm: {package: a, version: 1.0.0}, configMap: {name: b, key: c}}, host: {name: main}}",
    )?;
    ensure!(said.contains("source"), "{said}");
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
