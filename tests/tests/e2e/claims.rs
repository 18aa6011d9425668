//! Two plugins with one id at one host: the second waits, and takes over when the first goes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{COLD, Namespace, WARM, eventually, get, kubectl, paperclip_json};

const PLUGIN: &str = "greeter";
const EXAMPLE: &str = include_str!("../../../examples/greeter.yaml");

fn status(namespace: &Namespace) -> Result<Value> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    Ok(plugin["status"].clone())
}

#[test]
fn the_second_plugin_of_an_id_waits_without_pods_until_the_first_is_gone() -> Result<()> {
    let first = Namespace::create("e2e-claims-first")?;
    first.apply(EXAMPLE)?;
    first.wait_ready(PLUGIN, COLD)?;

    let second = Namespace::create("e2e-claims-second")?;
    second.apply(EXAMPLE)?;
    eventually("the reason", WARM, || {
        let status = status(&second)?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let stalled = conditions.iter().find(|one| one["type"] == "Stalled");
        let stalled = stalled.context("Stalled")?;
        ensure!(stalled["reason"] == "PluginIdTaken", "{stalled}");
        let says = stalled["message"].as_str().unwrap_or_default();
        for words in ["example.greeter", "e2e-claims-first/greeter"] {
            ensure!(says.contains(words), "{words} is not in {says}");
        }
        Ok(())
    })?;
    // Nothing of it that a host could find.
    let found = get(&["deployments,services,pods", "-n", second.name()])?;
    ensure!(found["items"] == json!([]), "{found}");
    first.wait_ready(PLUGIN, WARM)?;

    kubectl(&["delete", "paperclipplugin", PLUGIN, "-n", first.name()])?;
    eventually("the second to serve", COLD, || {
        second.wait_ready(PLUGIN, WARM)?;
        let parameters = r#"{"name": "Ada"}"#;
        let call = [
            "-o", "json", "call", PLUGIN, "greet", "--params", parameters,
        ];
        let answer = paperclip_json(second.name(), &call)?;
        ensure!(
            answer["result"]["data"]["greeting"] == "Good day, Ada.",
            "{answer}"
        );
        Ok(())
    })
}
