//! Data and actions: what user interfaces and scripts ask of a worker.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{access, error::ApiError, fields::Fields};
use crate::{
    auth::{Access, Caller},
    calls,
    host::Host,
};

/// What a worker answered.
#[derive(Debug, Serialize)]
pub struct Answer {
    data: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GetData<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_id: Option<&'a str>,
    params: &'a BTreeMap<String, Box<RawValue>>,
    render_environment: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PerformAction<'a> {
    key: &'a str,
    params: &'a BTreeMap<String, Box<RawValue>>,
    actor_context: ActorContext<'a>,
    render_environment: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorContext<'a> {
    r#type: &'static str,
    user_id: &'a str,
    agent_id: Option<&'a str>,
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_id: Option<&'a str>,
}

/// `POST …/bridge/data`
pub async fn data(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Json<Answer>, ApiError> {
    let key = fields.text("key")?;
    get_data(&host, &caller, &id, &key, &fields).await
}

/// `POST …/data/{key}`
pub async fn data_of_key(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    fields: Fields,
) -> Result<Json<Answer>, ApiError> {
    get_data(&host, &caller, &id, &key, &fields).await
}

/// `POST …/bridge/action`
pub async fn action(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Json<Answer>, ApiError> {
    let key = fields.text("key")?;
    perform_action(&host, &caller, &id, &key, &fields).await
}

/// `POST …/actions/{key}`
pub async fn action_of_key(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    fields: Fields,
) -> Result<Json<Answer>, ApiError> {
    perform_action(&host, &caller, &id, &key, &fields).await
}

async fn get_data(
    host: &Host,
    caller: &Caller,
    id: &str,
    key: &str,
    fields: &Fields,
) -> Result<Json<Answer>, ApiError> {
    let plugin = access::permitted(host, caller, Access::Call, id).await?;
    let company = access::company(host, fields)?;
    let params = fields.optional_object("params")?.unwrap_or_default();
    let call = GetData {
        key,
        company_id: company.as_deref(),
        params: params.as_map(),
        render_environment: fields.value("renderEnvironment"),
    };
    let data = calls::call(host, &plugin, "getData", &call, company.as_deref()).await?;
    Ok(Json(Answer { data }))
}

async fn perform_action(
    host: &Host,
    caller: &Caller,
    id: &str,
    key: &str,
    fields: &Fields,
) -> Result<Json<Answer>, ApiError> {
    let plugin = access::permitted(host, caller, Access::Call, id).await?;
    let company = access::company(host, fields)?;
    let mut params = fields.optional_object("params")?.unwrap_or_default();
    if let Some(company) = &company {
        params.set_text("companyId", company);
    }
    let call = PerformAction {
        key,
        params: params.as_map(),
        actor_context: ActorContext {
            r#type: "user",
            user_id: &caller.user,
            agent_id: None,
            run_id: None,
            company_id: company.as_deref(),
        },
        render_environment: fields.value("renderEnvironment"),
    };
    let data = calls::call(host, &plugin, "performAction", &call, company.as_deref()).await?;
    Ok(Json(Answer { data }))
}
