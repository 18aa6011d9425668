//! API routes: paths of their own that plugins declare, below `/api/plugins/{id}/api`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::{self, Body},
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    access,
    error::{self, ApiError},
    fields::Fields,
};
use crate::{
    auth::{Access, Caller},
    calls,
    host::Host,
    manifest::{ApiRoute, CompanySource, RouteAuth},
    plugins::{CallFailure, Cause},
    rpc,
};

/// Largest body of a request, in bytes.
const BODY_LIMIT: usize = 1_000_000;
/// Headers of the request that the worker sees.
const REQUEST_HEADERS: [&str; 5] = [
    "accept",
    "content-type",
    "user-agent",
    "x-paperclip-run-id",
    "x-request-id",
];
/// Headers of the worker's answer that the caller sees.
const RESPONSE_HEADERS: [&str; 4] = ["cache-control", "etag", "last-modified", "x-request-id"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandleApiRequest<'a> {
    route_key: &'a str,
    method: &'a str,
    path: &'a str,
    params: &'a BTreeMap<String, String>,
    query: &'a BTreeMap<String, OneOrMany>,
    body: Option<&'a RawValue>,
    actor: Actor<'a>,
    company_id: &'a str,
    headers: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Actor<'a> {
    actor_type: &'static str,
    actor_id: &'a str,
    agent_id: Option<&'a str>,
    user_id: &'a str,
    run_id: Option<&'a str>,
}

/// A query parameter: a text, or a list where it comes more than once.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What a worker answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

/// `… /api/plugins/{id}/api/{path}`, any method.
pub async fn handle(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, path)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Call, &id).await?;
    if !plugin.serves() && plugin.release().is_none() {
        return Err(ApiError::Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("plugin {id:?} is not ready: none of its pods has answered yet"),
        ));
    }
    let release = access::release(&plugin)?;
    let path = format!("/{}", path.trim_matches('/'));
    let (route, params) = release
        .manifest
        .api_route(method.as_str(), &path)
        .ok_or_else(|| {
            ApiError::not_found(format!("plugin {id:?} has no API route {method} {path}"))
        })?;
    admit(route)?;
    let body = read(&headers, body).await?;
    let query = gather(query);
    let company = company(&host, route, &query, body.as_deref())?;
    let call = HandleApiRequest {
        route_key: &route.route_key,
        method: method.as_str(),
        path: &path,
        params: &params,
        query: &query,
        body: body.as_deref(),
        actor: Actor {
            actor_type: "user",
            actor_id: &caller.user,
            agent_id: None,
            user_id: &caller.user,
            run_id: None,
        },
        company_id: &company,
        headers: &forwarded(&headers),
    };
    let answered = calls::call(&host, &plugin, "handleApiRequest", &call, Some(&company)).await;
    match answered {
        Ok(answer) => respond(&answer, &id),
        Err(failure) => Err(refusal(failure)),
    }
}

/// Callers of this host are people and programs of the cluster, never agents.
fn admit(route: &ApiRoute) -> Result<(), ApiError> {
    let (status, why) = match route.auth {
        RouteAuth::Board | RouteAuth::BoardOrAgent => return Ok(()),
        RouteAuth::Agent => (
            StatusCode::FORBIDDEN,
            "is for agents, and this host has none",
        ),
        RouteAuth::Webhook => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "is for webhooks, which have a path of their own",
        ),
    };
    let key = &route.route_key;
    Err(ApiError::Refused(
        status,
        format!("API route {key:?} {why}"),
    ))
}

/// The body as JSON, none where it is empty.
async fn read(headers: &HeaderMap, body: Body) -> Result<Option<Box<RawValue>>, ApiError> {
    let bytes = body::to_bytes(body, BODY_LIMIT).await.map_err(|_| {
        ApiError::Refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body cannot be read, or is larger than {BODY_LIMIT} bytes"),
        )
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") && !essence.ends_with("+json") {
        return Err(ApiError::Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body is {content_type:?}, wanted application/json"),
        ));
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

fn gather(pairs: Vec<(String, String)>) -> BTreeMap<String, OneOrMany> {
    let mut query = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in pairs {
        query.entry(name).or_default().push(value);
    }
    query
        .into_iter()
        .map(|(name, mut values)| match values.len() {
            1 => (name, OneOrMany::One(values.remove(0))),
            _ => (name, OneOrMany::Many(values)),
        })
        .collect()
}

/// The company that a route says it is for; where it says nothing, the one there is.
fn company(
    host: &Host,
    route: &ApiRoute,
    query: &BTreeMap<String, OneOrMany>,
    body: Option<&RawValue>,
) -> Result<String, ApiError> {
    let named = match &route.company_resolution {
        None => None,
        Some(CompanySource::Query { key }) => match query.get(key) {
            Some(OneOrMany::One(company)) => Some(company.clone()),
            _ => None,
        },
        Some(CompanySource::Body { key }) => match body {
            Some(body) => Fields::parse(body.get().as_bytes())?.optional_text(key)?,
            None => None,
        },
        Some(CompanySource::Issue { .. }) => {
            return Err(ApiError::bad_request(format!(
                "API route {:?} finds its company by an issue: issues belong to Paperclip, and this host has none",
                route.route_key
            )));
        }
    };
    access::named_company(host, named)?.ok_or_else(|| {
        ApiError::bad_request(format!(
            "the company of API route {:?} cannot be found",
            route.route_key
        ))
    })
}

fn forwarded(headers: &HeaderMap) -> BTreeMap<&'static str, String> {
    REQUEST_HEADERS
        .into_iter()
        .filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some((name, value.to_owned()))
        })
        .collect()
}

fn respond(answer: &RawValue, id: &str) -> Result<Response, ApiError> {
    let answer: Answer = serde_json::from_str(answer.get()).map_err(|error| {
        ApiError::Refused(
            StatusCode::BAD_GATEWAY,
            format!("the answer of plugin {id:?} is no API response: {error}"),
        )
    })?;
    let status = answer
        .status
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::OK);
    let mut response = match status {
        StatusCode::NO_CONTENT => status.into_response(),
        _ => (status, Json(answer.body)).into_response(),
    };
    for (name, value) in &answer.headers {
        let name = name.to_ascii_lowercase();
        if !RESPONSE_HEADERS.contains(&name.as_str()) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::from_str(value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A call without a result, with the status that Paperclip gives it on these routes.
fn refusal(failure: CallFailure) -> ApiError {
    let status = match (failure.cause, failure.fault.code) {
        (Cause::NotServing | Cause::QueueFull, _) => StatusCode::SERVICE_UNAVAILABLE,
        (_, rpc::CAPABILITY_DENIED | rpc::SCOPE_DENIED) => StatusCode::FORBIDDEN,
        (_, rpc::METHOD_NOT_IMPLEMENTED) => StatusCode::NOT_IMPLEMENTED,
        _ => error::status_of(&failure),
    };
    ApiError::Worker(status, Box::new(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_query_parameter_is_a_list() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query = gather(vec![pair("q", "1"), pair("p", "x"), pair("q", "2")]);
        assert_eq!(
            serde_json::to_value(&query).unwrap(),
            serde_json::json!({"p": "x", "q": ["1", "2"]})
        );
    }

    #[test]
    fn a_status_that_is_none_becomes_200_and_only_some_headers_pass() {
        let answer = r#"{"status": 700, "headers": {"ETag": "\"v1\"", "set-cookie": "a=b"}, "body": {"done": true}}"#;
        let answer: Box<RawValue> = serde_json::from_str(answer).unwrap();
        let response = respond(&answer, "acme.x").unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::ETAG], "\"v1\"");
        assert!(!response.headers().contains_key(header::SET_COOKIE));
    }
}
