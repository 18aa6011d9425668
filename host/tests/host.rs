//! The host over real HTTP, a real database and real sessions.
#![allow(missing_docs)]

mod cases;
mod support;

use paperclip_bridge::v1::Phase;
use paperclip_host::COMPANY_ID;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    Authority, Host, UID,
    pod::{Pod, Settings, manifest},
    read,
};

pub(crate) const PLUGIN: &str = "/api/plugins/acme.x";

pub(crate) async fn ready(settings: Settings) -> (Authority, Pod, Host) {
    let authority = Authority::new();
    let pod = Pod::start(&authority, settings).await;
    let host = Host::start(&authority, &[&pod]).await;
    serving(&host).await;
    (authority, pod, host)
}

pub(crate) async fn serving(host: &Host) {
    host.wait_for("/api/plugins", |plugins| plugins[0]["status"] == "ready")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_found_by_uid_key_and_name() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    for id in [UID, "acme.x", "shop:acme"] {
        let (status, plugin) = host.get(&format!("/api/plugins/{id}")).await;
        assert_eq!(status, StatusCode::OK, "{plugin}");
        assert_eq!(plugin["pluginKey"], "acme.x");
        assert_eq!(plugin["manifestJson"], manifest());
    }
    let (status, error) = host.get("/api/plugins/other").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(error["error"].as_str().unwrap().contains("other"));
    let (_, health) = host.get(&format!("{PLUGIN}/health")).await;
    assert_eq!(health["healthy"], true);
    let (_, dashboard) = host.get(&format!("{PLUGIN}/dashboard")).await;
    assert_eq!(dashboard["worker"]["status"], "running");
    assert_eq!(dashboard["pods"][0]["phase"], "serving");
    let (status, _) = host.health("/readyz").await;
    assert_eq!(status, StatusCode::OK);
    let (_, metrics) = host.health("/metrics").await;
    assert!(metrics.contains("paperclip_host_sessions 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_health_and_webhooks_need_no_token() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    for (method, path) in [
        (Method::GET, "/api/plugins".to_owned()),
        (Method::GET, "/api/plugins/tools".to_owned()),
        (Method::POST, "/api/plugins/tools/execute".to_owned()),
        (Method::GET, PLUGIN.to_owned()),
        (Method::POST, format!("{PLUGIN}/bridge/data")),
        (Method::POST, format!("{PLUGIN}/actions/x")),
        (Method::POST, format!("{PLUGIN}/jobs/sync/trigger")),
    ] {
        let (status, error) = host.anonymous(method, &path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(error["error"].as_str().unwrap().contains("bearer token"));
    }
    let (status, _) = host.anonymous(Method::GET, "/api/health").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = host
        .anonymous(Method::POST, &format!("{PLUGIN}/webhooks/in"))
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_reaches_the_worker_byte_for_byte_in_the_companys_scope() {
    let settings = Settings {
        worker: |link, asked| {
            Box::pin(async move {
                let key =
                    json!({"scopeKind": "company", "scopeId": COMPANY_ID, "stateKey": "deal"});
                let config = link
                    .call("config.get", json!({}), &asked.invocation)
                    .await?;
                let mut set = key.clone();
                set["value"] = json!({"asked": asked.params, "config": config});
                link.call("state.set", set, &asked.invocation).await
            })
        },
        ..Settings::default()
    };
    let (_ca, mut pod, host) = ready(settings).await;
    let body = "{\n  \"a\": 1.0,\r\n  \"text\": \"\u{2028}\"\n}";
    let path = format!("{PLUGIN}/webhooks/in");
    let sent = host
        .request(Method::POST, &path)
        .header("X-Sig", "abc")
        .header("content-type", "application/json")
        .body(body);
    let (status, answer) = read(sent.send().await.unwrap()).await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::OK, &json!("success")),
        "{answer}"
    );
    let link = pod.links.recv().await.unwrap();
    let key = json!({"scopeKind": "company", "scopeId": COMPANY_ID, "stateKey": "deal"});
    let stored = link.call("state.get", key, "").await.unwrap();
    assert_eq!(stored["config"], json!({"currency": "EUR"}));
    assert_eq!(stored["asked"]["rawBody"], body);
    assert_eq!(
        stored["asked"]["parsedBody"],
        json!({"a": 1.0, "text": "\u{2028}"})
    );
    assert_eq!(stored["asked"]["headers"]["x-sig"], "abc");
    assert_eq!(stored["asked"]["requestId"], answer["deliveryId"]);
    let (_, dashboard) = host.get(&format!("{PLUGIN}/dashboard")).await;
    let delivery = &dashboard["recentWebhookDeliveries"][0];
    assert_eq!(delivery["status"], "success");
    assert_eq!(delivery["headers"]["x-sig"], "abc");
    assert_eq!(delivery["headers"]["authorization"], Value::Null);
    let (status, _) = host
        .post(&format!("{PLUGIN}/webhooks/other"), json!({}))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_the_host() {
    let (authority, mut pod, host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    let key = json!({"scopeKind": "instance", "stateKey": "k"});
    let mut set = key.clone();
    set["value"] = json!({"n": 1});
    assert_eq!(link.call("state.set", set, "").await, Ok(Value::Null));
    let folder = host.stop().await;
    let host = Host::start_with(&authority, &[&pod], folder, |_| {}).await;
    let link = pod.links.recv().await.unwrap();
    assert_eq!(
        link.call("state.get", key.clone(), "").await,
        Ok(json!({"n": 1}))
    );
    assert_eq!(
        link.call("state.delete", key.clone(), "").await,
        Ok(Value::Null)
    );
    assert_eq!(link.call("state.get", key, "").await, Ok(Value::Null));
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_not_declared_needs_the_switch() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    let (_, tools) = host.get("/api/plugins/tools").await;
    assert_eq!(tools[0]["name"], "acme.x:search");
    let execute = |body| host.post("/api/plugins/tools/execute", body);
    let (status, answer) = execute(json!({"tool": "acme.x:search", "parameters": {"q": 1}})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["toolName"], "search");
    assert_eq!(
        answer["result"]["params"]["runContext"]["companyId"],
        COMPANY_ID
    );
    assert_eq!(answer["result"]["params"]["parameters"], json!({"q": 1}));
    let (status, _) = execute(json!({"tool": "acme.x:hidden"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, answer) = execute(json!({"tool": "acme.x:hidden", "allowUndeclared": true})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, error) = execute(json!({"tool": 3})).await;
    assert_eq!(
        (status, &error["error"]),
        (
            StatusCode::BAD_REQUEST,
            &json!("field \"tool\" is a number, wanted a text")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn data_and_actions_pass_through_and_faults_become_bridge_errors() {
    let settings = Settings {
        worker: |_, asked| {
            Box::pin(async move {
                match asked.params["key"].as_str() {
                    Some("broken") => Err((-32002, "tracker is down".to_owned())),
                    _ => Ok(asked.params),
                }
            })
        },
        ..Settings::default()
    };
    let (_ca, _pod, host) = ready(settings).await;
    let (_, answer) = host
        .post(
            &format!("{PLUGIN}/bridge/data"),
            json!({"key": "k", "params": {"page": 1}}),
        )
        .await;
    assert_eq!(
        answer["data"],
        json!({"key": "k", "companyId": COMPANY_ID, "params": {"page": 1}, "renderEnvironment": null})
    );
    let (_, answer) = host
        .post(
            &format!("{PLUGIN}/actions/go"),
            json!({"params": {"full": true}}),
        )
        .await;
    assert_eq!(
        answer["data"]["params"],
        json!({"full": true, "companyId": COMPANY_ID})
    );
    assert_eq!(answer["data"]["actorContext"]["type"], "user");
    let (status, answer) = host.post(&format!("{PLUGIN}/data/broken"), json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        answer,
        json!({
            "code": "WORKER_ERROR", "message": "tracker is down", "details": {"retry": true},
            "plugin": "shop/acme", "method": "getData", "cause": "refused",
        })
    );
    let (status, _) = host
        .post(&format!("{PLUGIN}/data/k"), json!({"companyId": UID}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifest_does_not_declare_is_refused() {
    let mut manifest = manifest();
    manifest["capabilities"] = json!(["issues.read"]);
    let (_ca, mut pod, _host) = ready(Settings {
        manifest,
        ..Settings::default()
    })
    .await;
    let link = pod.links.recv().await.unwrap();
    let code =
        async |method: &str, params: Value| link.call(method, params, "").await.unwrap_err().0;
    assert_eq!(
        code(
            "state.get",
            json!({"scopeKind": "instance", "stateKey": "k"})
        )
        .await,
        -32001
    );
    assert_eq!(
        code("http.fetch", json!({"url": "http://127.0.0.1"})).await,
        -32001
    );
    assert_eq!(
        code("events.emit", json!({"name": "x", "companyId": COMPANY_ID})).await,
        -32001
    );
    assert_eq!(
        code("issues.list", json!({"companyId": COMPANY_ID})).await,
        -32603
    );
    assert_eq!(code("no.such", json!({})).await, -32601);
    assert_eq!(code("activity.log", json!({})).await, -32001);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_not_fetched() {
    let (_ca, mut pod, _host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    for url in [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://169.254.169.254/",
        "ftp://x",
    ] {
        let (code, message) = link
            .call("http.fetch", json!({"url": url}), "")
            .await
            .unwrap_err();
        assert_eq!(code, -32603, "{url}");
        assert!(
            message.contains("may not reach") || message.contains("scheme"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_range_is_fetched() {
    let authority = Authority::new();
    let mut pod = Pod::start(&authority, Settings::default()).await;
    let host = Host::start_with(&authority, &[&pod], tempfile::tempdir().unwrap(), |args| {
        args.http_fetch_allow_cidr = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let link = pod.links.recv().await.unwrap();
    let url = host
        .request(Method::GET, "/api/health")
        .build()
        .unwrap()
        .url()
        .to_string();
    let fetched = link
        .call(
            "http.fetch",
            json!({"url": url, "init": {"method": "GET"}}),
            "",
        )
        .await
        .unwrap();
    assert_eq!(
        (&fetched["status"], &fetched["statusText"]),
        (&json!(200), &json!("OK"))
    );
    assert!(
        fetched["body"]
            .as_str()
            .unwrap()
            .contains("startupRecovery")
    );
    assert_eq!(fetched["headers"]["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_and_logs_are_kept() {
    let (_ca, mut pod, host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    let entity = |title: &str| json!({"entityType": "deal", "scopeKind": "instance", "externalId": "1", "title": title, "data": {"price": 5}});
    let first = link
        .call("entities.upsert", entity("one"), "")
        .await
        .unwrap();
    let second = link
        .call("entities.upsert", entity("two"), "")
        .await
        .unwrap();
    assert_eq!(first["id"], second["id"]);
    let all = link
        .call("entities.list", json!({"entityType": "deal"}), "")
        .await
        .unwrap();
    assert_eq!(all, json!([second]));
    link.call(
        "log",
        json!({"level": "warn", "message": "careful", "meta": {"n": 1}}),
        "",
    )
    .await
    .unwrap();
    link.call("metrics.write", json!({"name": "deals", "value": 2}), "")
        .await
        .unwrap();
    link.call(
        "activity.log",
        json!({"message": "sold", "companyId": COMPANY_ID}),
        "",
    )
    .await
    .unwrap();
    let (_, logs) = host.get(&format!("{PLUGIN}/logs")).await;
    let shown: Vec<_> = logs
        .as_array()
        .unwrap()
        .iter()
        .map(|log| (log["level"].clone(), log["message"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("activity", "sold"),
            ("metric", "deals"),
            ("warn", "careful")
        ]
        .map(|(level, message)| (json!(level), json!(message)))
    );
    let (status, _) = host.get(&format!("{PLUGIN}/logs?limit=0")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_a_subscriber_once() {
    let subscriptions = vec![
        json!({"eventPattern": "plugin.acme.x.*", "filter": null}),
        json!({"eventPattern": "plugin.acme.x.done"}),
    ];
    let (_ca, mut pod, _host) = ready(Settings {
        subscriptions,
        ..Settings::default()
    })
    .await;
    let link = pod.links.recv().await.unwrap();
    for name in ["done", "last"] {
        let event = json!({"name": name, "companyId": COMPANY_ID, "payload": {"n": 1}});
        link.call("events.emit", event, "").await.unwrap();
    }
    let first = pod.notified.recv().await.unwrap();
    assert_eq!(first["method"], "onEvent");
    assert_eq!(first["params"]["event"]["eventType"], "plugin.acme.x.done");
    assert_eq!(first["params"]["event"]["companyId"], COMPANY_ID);
    let invocation = first["invocation"].as_str().unwrap();
    assert!(link.call("config.get", json!({}), invocation).await.is_ok());
    let second = pod.notified.recv().await.unwrap();
    assert_eq!(second["params"]["event"]["eventType"], "plugin.acme.x.last");
    let (code, _) = link
        .call(
            "events.emit",
            json!({"name": "plugin.x", "companyId": COMPANY_ID}),
            "",
        )
        .await
        .unwrap_err();
    assert_eq!(code, -32603);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_when_triggered_and_its_run_is_kept() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    let (_, jobs) = host.get(&format!("{PLUGIN}/jobs")).await;
    let job = jobs[0]["id"].as_str().unwrap();
    assert_eq!(
        (&jobs[0]["jobKey"], &jobs[0]["status"]),
        (&json!("sync"), &json!("active"))
    );
    let (status, triggered) = host
        .post(&format!("{PLUGIN}/jobs/{job}/trigger"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK, "{triggered}");
    let runs = host
        .wait_for(&format!("{PLUGIN}/jobs/{job}/runs"), |runs| {
            runs[0]["status"] == "succeeded"
        })
        .await;
    assert_eq!(runs[0]["id"], triggered["runId"]);
    assert_eq!(runs[0]["trigger"], "manual");
    let (status, _) = host
        .post(&format!("{PLUGIN}/jobs/other/trigger"), json!({}))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_a_pod_that_serves() {
    let authority = Authority::new();
    let mut pod = Pod::start(
        &authority,
        Settings {
            phase: Phase::Starting,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&pod]).await;
    let link = pod.links.recv().await.unwrap();
    host.wait_for("/api/plugins", |plugins| {
        plugins[0]["status"] == "installed"
    })
    .await;
    let path = format!("{PLUGIN}/data/k");
    let call = host.post(&path, json!({}));
    let ((status, answer), ()) = tokio::join!(call, link.phase(Phase::Serving));
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_activation_that_serves_gets_the_calls() {
    let authority = Authority::new();
    let named = |name, activation, phase, worker| Settings {
        name,
        activation,
        phase,
        worker,
        ..Settings::default()
    };
    let old = Pod::start(
        &authority,
        named("old", 1, Phase::Serving, |_, _| {
            Box::pin(async { Ok(json!("old")) })
        }),
    )
    .await;
    let mut new = Pod::start(
        &authority,
        named("new", 2, Phase::Starting, |_, _| {
            Box::pin(async { Ok(json!("new")) })
        }),
    )
    .await;
    let host = Host::start(&authority, &[&old, &new]).await;
    let dashboard = format!("{PLUGIN}/dashboard");
    host.wait_for(&dashboard, |dashboard| {
        dashboard["pods"]
            .as_array()
            .is_some_and(|pods| pods.len() == 2)
    })
    .await;
    let path = format!("{PLUGIN}/data/k");
    assert_eq!(host.post(&path, json!({})).await.1["data"], "old");
    let link = new.links.recv().await.unwrap();
    link.phase(Phase::Serving).await;
    host.wait_for(&dashboard, |dashboard| {
        dashboard["pods"]
            .as_array()
            .is_some_and(|pods| pods.iter().all(|pod| pod["phase"] == "serving"))
    })
    .await;
    assert_eq!(host.post(&path, json!({})).await.1["data"], "new");
    new.stop.cancel();
    link.phase(Phase::Draining).await;
    host.wait_for(&dashboard, |dashboard| {
        dashboard["pods"].as_array().is_some_and(|pods| {
            pods.iter()
                .all(|pod| pod["name"] == "old" || pod["phase"] == "draining")
        })
    })
    .await;
    assert_eq!(host.post(&path, json!({})).await.1["data"], "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_another_plugins_certificate_is_not_taken() {
    let authority = Authority::new();
    let impostor = Pod::start_as(&authority, Settings::default(), "other").await;
    let genuine = Pod::start(
        &authority,
        Settings {
            name: "genuine",
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&impostor, &genuine]).await;
    let dashboard = host
        .wait_for(&format!("{PLUGIN}/dashboard"), |dashboard| {
            dashboard["pods"][0].is_object()
        })
        .await;
    assert_eq!(dashboard["pods"].as_array().unwrap().len(), 1);
    assert_eq!(dashboard["pods"][0]["name"], "genuine");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_scopes_refuse_what_a_real_host_refuses() {
    let authority = Authority::new();
    let settings = Settings {
        worker: |link, asked| {
            Box::pin(async move { link.call("config.get", json!({}), &asked.invocation).await })
        },
        ..Settings::default()
    };
    let pod = Pod::start(&authority, settings).await;
    let host = Host::start_with(&authority, &[&pod], tempfile::tempdir().unwrap(), |args| {
        args.strict_scopes = true;
    })
    .await;
    serving(&host).await;
    let (status, answer) = host.post(&format!("{PLUGIN}/webhooks/in"), json!({})).await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::BAD_GATEWAY, &json!("failed")),
        "{answer}"
    );
    assert!(answer["error"].as_str().unwrap().contains("config.get"));
}
