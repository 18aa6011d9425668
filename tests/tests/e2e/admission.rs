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
        "{source: {npm: {package: a, version: 1.0.0}, oci: {reference: b}}, host: {name: main}}",
    )?;
    ensure!(said.contains("source"), "{said}");
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
