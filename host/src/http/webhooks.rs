//! Webhooks: what the outside posts to a plugin, byte for byte, on record before the worker hears of it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    access,
    error::{self, ApiError},
    fields,
};
use crate::{
    calls,
    company::COMPANY_ID,
    database::{NewDelivery, Outcome},
    host::Host,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandleWebhook<'a> {
    endpoint_key: &'a str,
    headers: &'a BTreeMap<String, Value>,
    raw_body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parsed_body: Option<&'a RawValue>,
    request_id: &'a str,
}

/// The value of a header as Node shows it: a text, or a list for `set-cookie`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value {
    One(String),
    Many(Vec<String>),
}

/// `POST …/webhooks/{endpointKey}`
pub async fn receive(
    State(host): State<Arc<Host>>,
    Path((id, endpoint_key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let plugin = access::find(&host, &id)?;
    let manifest = &access::release(&plugin)?.manifest;
    if !manifest.capabilities.contains("webhooks.receive") {
        return Err(ApiError::bad_request(format!(
            "plugin {:?} does not declare the capability webhooks.receive",
            manifest.id
        )));
    }
    if !manifest.has_webhook(&endpoint_key) {
        return Err(ApiError::not_found(format!(
            "plugin {:?} has no webhook {endpoint_key:?}",
            manifest.id
        )));
    }
    let body = fields::read(body).await?;
    let raw_body = std::str::from_utf8(&body).map_err(|error| {
        ApiError::bad_request(format!(
            "the body is not UTF-8 text from byte {} on",
            error.valid_up_to()
        ))
    })?;
    let parsed_body = parse(&headers, raw_body);
    let headers = as_node_shows(&headers);
    let delivery_id = Uuid::new_v4().to_string();
    let company = (!host.strict_scopes).then_some(COMPANY_ID);
    let payload = parsed_body.map_or_else(
        || json!(raw_body).to_string(),
        |parsed| parsed.get().to_owned(),
    );
    host.database
        .record_delivery(NewDelivery {
            id: &delivery_id,
            plugin: &plugin.id().uid,
            company,
            webhook_key: &endpoint_key,
            payload: &payload,
            headers: &json!(without_credentials(&headers)).to_string(),
        })
        .await?;
    let begun = Instant::now();
    let call = HandleWebhook {
        endpoint_key: &endpoint_key,
        headers: &headers,
        raw_body,
        parsed_body,
        request_id: &delivery_id,
    };
    let answered = calls::call(&host, &plugin, "handleWebhook", &call, company).await;
    let outcome = match &answered {
        Ok(_) => Outcome::Succeeded,
        Err(failure) => Outcome::Failed(failure.fault.message.clone()),
    };
    let duration = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    host.database
        .finish_delivery(&delivery_id, &outcome, duration)
        .await?;
    Ok(match answered {
        Ok(_) => Json(json!({"deliveryId": delivery_id, "status": "success"})).into_response(),
        Err(failure) => (
            error::status_of(&failure),
            Json(json!({
                "deliveryId": delivery_id,
                "status": "failed",
                "error": failure.fault.message,
                "plugin": format!("{}/{}", failure.plugin.namespace, failure.plugin.name),
                "method": failure.method,
                "cause": failure.cause.as_str(),
            })),
        )
            .into_response(),
    })
}

/// The body as JSON, where its type does not say that it is something else.
fn parse<'a>(headers: &HeaderMap, body: &'a str) -> Option<&'a RawValue> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or_default());
    let essence = content_type.map(|text| {
        text.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    let may_be_json =
        essence.is_none_or(|essence| essence == "application/json" || essence.ends_with("+json"));
    may_be_json
        .then(|| serde_json::from_str(body).ok())
        .flatten()
}

/// Headers as Node gives them to a server: names in lower case, repeated values joined where they may be.
fn as_node_shows(headers: &HeaderMap) -> BTreeMap<String, Value> {
    headers
        .keys()
        .map(|name| {
            let values: Vec<String> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            (name.as_str().to_owned(), join(name, values))
        })
        .collect()
}

fn join(name: &HeaderName, mut values: Vec<String>) -> Value {
    match name {
        &header::SET_COOKIE => Value::Many(values),
        &header::COOKIE => Value::One(values.join("; ")),
        name if is_single(name) => Value::One(values.swap_remove(0)),
        _ => Value::One(values.join(", ")),
    }
}

/// Headers of which Node keeps the first and drops the rest.
fn is_single(name: &HeaderName) -> bool {
    const SINGLE: [HeaderName; 18] = [
        header::AGE,
        header::AUTHORIZATION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::ETAG,
        header::EXPIRES,
        header::FROM,
        header::HOST,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::LAST_MODIFIED,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PROXY_AUTHORIZATION,
        header::REFERER,
        header::RETRY_AFTER,
        header::SERVER,
        header::USER_AGENT,
    ];
    SINGLE.contains(name)
}

fn without_credentials(headers: &BTreeMap<String, Value>) -> BTreeMap<&String, &Value> {
    let credentials = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
    ];
    headers
        .iter()
        .filter(|(name, _)| !credentials.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(all: &[(&str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn repeated_headers_are_joined_as_node_joins_them() {
        let shown = as_node_shows(&headers(&[
            ("X-Many", "1"),
            ("x-many", "2"),
            ("Cookie", "a=1"),
            ("Cookie", "b=2"),
            ("User-Agent", "x"),
            ("User-Agent", "y"),
            ("Set-Cookie", "c"),
        ]));
        assert_eq!(shown["x-many"], Value::One("1, 2".into()));
        assert_eq!(shown["cookie"], Value::One("a=1; b=2".into()));
        assert_eq!(shown["user-agent"], Value::One("x".into()));
        assert_eq!(shown["set-cookie"], Value::Many(vec!["c".into()]));
    }

    #[test]
    fn credentials_are_not_kept() {
        let shown = as_node_shows(&headers(&[
            ("Authorization", "Bearer x"),
            ("Cookie", "a"),
            ("X-Sig", "s"),
        ]));
        assert_eq!(
            without_credentials(&shown).keys().collect::<Vec<_>>(),
            [&"x-sig"]
        );
    }

    #[test]
    fn only_json_is_parsed() {
        let parsed = |kind: &'static str, body| {
            parse(&headers(&[("content-type", kind)]), body).map(|value| value.get().to_owned())
        };
        assert_eq!(
            parsed("application/json; charset=utf-8", "{\"a\": 1}").as_deref(),
            Some("{\"a\": 1}")
        );
        assert_eq!(
            parsed("application/cloudevents+json", "1").as_deref(),
            Some("1")
        );
        assert_eq!(parsed("application/x-www-form-urlencoded", "1"), None);
        assert_eq!(parsed("application/json", "{"), None);
        assert!(parse(&HeaderMap::new(), "[]").is_some());
    }
}
