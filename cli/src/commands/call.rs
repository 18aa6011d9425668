//! `call`, `data` and `action`: what a plugin answers through its host.

use serde_json::{Map, Value, json};

use super::Session;
use crate::{
    args::{Input, Keyed, PluginName},
    error::Error,
    host::segment,
    output, payload,
};

pub(super) async fn tool(
    session: &Session,
    name: &PluginName,
    tool: &str,
    input: &Input,
    undeclared: bool,
) -> Result<(), Error> {
    let params = payload::read_params(input.params.as_ref())?;
    let (plugin, mut host) = session.open(name).await?;
    let body = tool_call(
        &plugin.uid(),
        plugin.bare_tool(tool),
        params,
        input,
        undeclared,
    );
    let doing = format!("call tool {tool} of plugin {}", plugin.full_name());
    let answer = host
        .post(&doing, "/api/plugins/tools/execute", &body)
        .await?;
    let result = &answer["result"];
    output::answer(session.global.output, &answer, || tool_text(result))?;
    // A tool says that it failed in its result; the call itself went well.
    match result["error"].as_str() {
        Some(error) => Err(Error::Failed(format!("{doing}: the tool says: {error}"))),
        None => Ok(()),
    }
}

/// The request to call a tool. The plugin goes by its UID, since the plugins of two
/// namespaces may have one key.
fn tool_call(
    uid: &str,
    tool: &str,
    params: Map<String, Value>,
    input: &Input,
    undeclared: bool,
) -> Value {
    let mut body = json!({
        "tool": format!("{uid}:{tool}"),
        "parameters": params,
        "runContext": {"companyId": input.company},
    });
    if undeclared {
        body["allowUndeclared"] = Value::Bool(true);
    }
    body
}

/// A tool's text for people, followed by its data.
fn tool_text(result: &Value) -> Result<String, Error> {
    let mut text = String::new();
    if let Some(content) = result["content"].as_str() {
        text.push_str(content);
        if !content.ends_with('\n') {
            text.push('\n');
        }
    }
    let data = &result["data"];
    if !data.is_null() {
        text.push_str(&output::json(data)?);
    } else if text.is_empty() && result["error"].is_null() {
        text.push_str(&output::json(result)?);
    }
    Ok(text)
}

pub(super) async fn data(session: &Session, keyed: &Keyed) -> Result<(), Error> {
    bridge(session, keyed, "data", "read data").await
}

pub(super) async fn action(session: &Session, keyed: &Keyed) -> Result<(), Error> {
    bridge(session, keyed, "actions", "perform action").await
}

async fn bridge(session: &Session, keyed: &Keyed, route: &str, verb: &str) -> Result<(), Error> {
    let Keyed { plugin, key, input } = keyed;
    let params = payload::read_params(input.params.as_ref())?;
    let (plugin, mut host) = session.open(plugin).await?;
    let path = format!(
        "/api/plugins/{}/{route}/{}",
        segment(&plugin.uid()),
        segment(key)
    );
    let doing = format!("{verb} {key} of plugin {}", plugin.full_name());
    let body = json!({"companyId": input.company, "params": params});
    let answer = host.post(&doing, &path, &body).await?;
    output::answer(session.global.output, &answer, || {
        output::json(&answer["data"])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Input {
        Input {
            params: None,
            company: "c".into(),
        }
    }

    #[test]
    fn a_tool_is_called_by_the_plugins_uid() {
        let body = tool_call("u-1", "brew", Map::new(), &input(), false);
        assert_eq!(
            body,
            json!({"tool": "u-1:brew", "parameters": {}, "runContext": {"companyId": "c"}})
        );
    }

    #[test]
    fn undeclared_tools_are_called_on_request_only() {
        let body = tool_call("u-1", "brew", Map::new(), &input(), true);
        assert_eq!(body["allowUndeclared"], true);
    }

    #[test]
    fn people_read_a_tools_text_then_its_data() {
        let result = json!({"content": "2 hits", "data": [1]});
        assert_eq!(tool_text(&result).unwrap(), "2 hits\n[\n  1\n]\n");
    }

    #[test]
    fn a_failed_tool_prints_no_result() {
        assert_eq!(tool_text(&json!({"error": "no tea"})).unwrap(), "");
    }
}
