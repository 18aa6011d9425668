//! Tools: what plugins offer to agents.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{access, error::ApiError, fields::Fields};
use crate::{
    auth::{Access, Caller},
    calls,
    company::COMPANY_ID,
    host::Host,
};

/// A declared tool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolEntry {
    name: String,
    display_name: String,
    description: String,
    parameters_schema: Box<RawValue>,
    plugin_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListQuery {
    plugin_id: Option<String>,
}

/// What a tool answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    plugin_id: String,
    tool_name: String,
    result: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecuteTool<'a> {
    tool_name: &'a str,
    parameters: &'a BTreeMap<String, Box<RawValue>>,
    run_context: RunContext,
}

/// For whom and within what a tool runs. Agents, runs and projects belong to Paperclip, so ids that
/// the caller leaves out are made up.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunContext {
    agent_id: String,
    run_id: String,
    company_id: String,
    project_id: String,
}

/// `GET /api/plugins/tools`
pub async fn list(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<ToolEntry>>, ApiError> {
    let mut tools = Vec::new();
    for plugin in access::visible(&host, &caller).await? {
        let Some(release) = plugin.release().filter(|_| plugin.serves()) else {
            continue;
        };
        let manifest = &release.manifest;
        if query
            .plugin_id
            .as_ref()
            .is_some_and(|wanted| *wanted != manifest.id)
        {
            continue;
        }
        tools.extend(manifest.tools.iter().map(|tool| ToolEntry {
            name: format!("{}:{}", manifest.id, tool.name),
            display_name: tool.display_name.clone(),
            description: tool.description.clone(),
            parameters_schema: tool.parameters_schema.clone(),
            plugin_id: plugin.id().uid.clone(),
        }));
    }
    Ok(Json(tools))
}

/// `POST /api/plugins/tools/execute`
pub async fn execute(
    State(host): State<Arc<Host>>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<Executed>, ApiError> {
    let full_name = fields.text("tool")?;
    let (key, tool_name) = full_name.split_once(':').ok_or_else(|| {
        ApiError::bad_request(format!(
            "field \"tool\" is {full_name:?}, wanted <plugin key>:<tool>"
        ))
    })?;
    let plugin = access::permitted(&host, &caller, Access::Call, key).await?;
    let declared = access::release(&plugin)?.manifest.has_tool(tool_name);
    if !declared && !fields.switch("allowUndeclared")? {
        return Err(ApiError::not_found(format!(
            "tool {full_name:?} is not declared by its plugin's manifest; \"allowUndeclared\": true calls it all the same"
        )));
    }
    let context = fields.optional_object("runContext")?.unwrap_or_default();
    let company = access::company(&host, &context)?.unwrap_or_else(|| COMPANY_ID.to_owned());
    let id = |field| -> Result<String, ApiError> {
        Ok(context
            .optional_text(field)?
            .unwrap_or_else(|| Uuid::new_v4().to_string()))
    };
    let parameters = fields.optional_object("parameters")?.unwrap_or_default();
    let call = ExecuteTool {
        tool_name,
        parameters: parameters.as_map(),
        run_context: RunContext {
            agent_id: id("agentId")?,
            run_id: id("runId")?,
            company_id: company.clone(),
            project_id: id("projectId")?,
        },
    };
    let result = calls::call(&host, &plugin, "executeTool", &call, Some(&company)).await?;
    Ok(Json(Executed {
        plugin_id: plugin.id().uid.clone(),
        tool_name: tool_name.to_owned(),
        result,
    }))
}
