//! API routes that a plugin declares.

use paperclip_host::COMPANY_ID;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    PLUGIN, ready,
    support::{
        pod::{Settings, manifest},
        read,
    },
};

fn settings() -> Settings {
    let route = |key: &str, method: &str, path: &str, auth: &str| json!({"routeKey": key, "method": method, "path": path, "auth": auth, "capability": "api.routes.register"});
    let mut manifest = manifest();
    let capabilities = manifest["capabilities"].as_array_mut().unwrap();
    capabilities.push(json!("api.routes.register"));
    let mut hello = route("hello", "POST", "/hello/:name", "board-or-agent");
    hello["companyResolution"] = json!({"from": "body", "key": "companyId"});
    let mut issue = route("issue", "GET", "/issues/:issueId", "board");
    issue["companyResolution"] = json!({"from": "issue", "param": "issueId"});
    manifest["apiRoutes"] = json!([
        hello,
        issue,
        route("fault", "GET", "/fault/:code", "board"),
        route("agents", "GET", "/agents", "agent"),
        route("hook", "POST", "/hook", "webhook"),
    ]);
    Settings {
        manifest,
        worker: |_, asked| {
            Box::pin(async move {
                if let Some(code) = asked.params["params"]["code"].as_str() {
                    return Err((code.parse().unwrap(), "no".to_owned()));
                }
                let headers = json!({"ETag": "\"v1\"", "x-secret": "no"});
                Ok(json!({"status": 201, "headers": headers, "body": asked.params}))
            })
        },
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_worker_and_its_answer_the_caller() {
    let (_ca, _pod, host) = ready(settings()).await;
    let answer = host
        .request(Method::POST, &format!("{PLUGIN}/api/hello/bob/?q=1&q=2"))
        .header("x-request-id", "r1")
        .header("x-other", "o")
        .json(&json!({"companyId": COMPANY_ID, "n": 1.0}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["etag"], "\"v1\"");
    assert!(!answer.headers().contains_key("x-secret"));
    let (status, mut params) = read(answer).await;
    assert_eq!(status, StatusCode::CREATED);
    let headers = params["headers"].take();
    assert_eq!(headers["x-request-id"], "r1");
    assert_eq!(headers["x-other"], Value::Null);
    assert_eq!(params["actor"]["actorType"], "user");
    params["actor"] = Value::Null;
    assert_eq!(
        params,
        json!({
            "routeKey": "hello", "method": "POST", "path": "/hello/bob", "params": {"name": "bob"},
            "query": {"q": ["1", "2"]}, "body": {"companyId": COMPANY_ID, "n": 1.0},
            "companyId": COMPANY_ID, "headers": null, "actor": null,
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_routed_has_the_status_that_paperclip_gives_it() {
    let (_ca, _pod, host) = ready(settings()).await;
    let api = |path: &str| format!("{PLUGIN}/api{path}");
    for (path, wanted) in [
        ("/none", StatusCode::NOT_FOUND),
        ("/hello/bob", StatusCode::NOT_FOUND),
        ("/agents", StatusCode::FORBIDDEN),
        ("/issues/1", StatusCode::BAD_REQUEST),
        ("/fault/-32001", StatusCode::FORBIDDEN),
        ("/fault/-32005", StatusCode::FORBIDDEN),
        ("/fault/-32004", StatusCode::NOT_IMPLEMENTED),
        ("/fault/-32002", StatusCode::BAD_GATEWAY),
    ] {
        let (status, answer) = host.get(&api(path)).await;
        assert_eq!(status, wanted, "{path}: {answer}");
    }
    let (status, _) = host.post(&api("/hook"), json!({})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let hello = |content_type: &'static str, body: String| {
        host.request(Method::POST, &api("/hello/bob"))
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    let status = |answer: reqwest::Result<reqwest::Response>| answer.unwrap().status();
    assert_eq!(
        status(hello("text/plain", "x".into()).await),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(
        status(hello("application/json", "{".into()).await),
        StatusCode::BAD_REQUEST
    );
    let large = json!({"text": "x".repeat(1_000_000)}).to_string();
    assert_eq!(
        status(hello("application/json", large).await),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let (anonymous, _) = host.anonymous(Method::GET, &api("/agents")).await;
    assert_eq!(anonymous, StatusCode::UNAUTHORIZED);
}
