//! Whom a pod lets in by certificate, and how its own is renewed.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::{
    client::{self, ConnectError},
    tls::ClientTls,
    v1::HostHello,
};
use serde_json::json;

use crate::support::{
    PATIENCE, artifact,
    certificates::{Authority, Leaf, Validity, dns, uri},
    host::{Host, Store},
    pod::{Pod, host, plugin},
};

const WORKER: &str = "handlers.getData = ({ id }) => send({ id, result: 1 });";

async fn pod() -> Pod {
    let pod = Pod::start(json!({}), |folder| artifact::raw(folder, WORKER, &[]));
    pod.serving().await;
    pod
}

/// Tries a session as the host that the pod is for, with this certificate.
async fn connect(pod: &Pod, tls: &ClientTls) -> Result<(), ConnectError> {
    let hello = HostHello {
        host_namespace: "paperclip".into(),
        host_name: "main".into(),
        ..HostHello::default()
    };
    client::connect(pod.address().await, tls, &plugin(), hello)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_certificate_out_of_its_time_or_of_another_authority_is_turned_away() {
    let pod = pod().await;
    let names = [uri(&host().to_string())];
    let issue = |validity| pod.authority.issue_for(&names, validity);
    for validity in [Validity::Past, Validity::Future] {
        assert!(
            connect(&pod, &issue(validity).client()).await.is_err(),
            "{validity:?}"
        );
    }
    // It trusts the pod's authority, and is trusted by another.
    let foreign = Authority::new().issue(&host());
    let foreign = Leaf {
        ca: issue(Validity::Now).ca,
        ..foreign
    };
    assert!(connect(&pod, &foreign.client()).await.is_err());
    connect(&pod, &issue(Validity::Now).client()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_names_one_identity_of_this_platform_and_nothing_else() {
    let pod = pod().await;
    let ours = host().to_string();
    let more = format!("{ours}/more");
    let wrong = [
        vec![uri("spiffe://elsewhere.test/ns/paperclip/host/main")],
        vec![uri(&more)],
        vec![dns("main.paperclip.svc")],
        vec![uri(&ours), uri("spiffe://paperclip.ing/operator")],
        Vec::new(),
    ];
    for names in wrong {
        let leaf = pod.authority.issue_for(&names, Validity::Now);
        assert!(connect(&pod, &leaf.client()).await.is_err(), "{names:?}");
    }
    // A name for people beside it does no harm.
    let names = [uri(&ours), dns("main.paperclip.svc")];
    let leaf = pod.authority.issue_for(&names, Validity::Now);
    connect(&pod, &leaf.client()).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_dials_its_own_pod_has_no_certificate_and_is_turned_away() {
    let worker = r#"
        import tls from "node:tls";
        handlers.getData = ({ id, params }) => {
            const options = { host: "127.0.0.1", port: params.port, rejectUnauthorized: false, ALPNProtocols: ["h2"] };
            const dialled = tls.connect(options, () => dialled.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
            let served = false, failed = null;
            dialled.on("data", () => { served = true; dialled.end(); });
            dialled.on("error", ({ code }) => { failed = code; });
            dialled.on("close", () => send({ id, result: { served, failed } }));
        };
    "#;
    let pod = Pod::start(json!({}), |folder| artifact::raw(folder, worker, &[]));
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    let port = pod.address().await.port();
    let dialled = host.call("getData", json!({"port": port})).await.unwrap();
    let wanted = json!({"served": false, "failed": "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"});
    assert_eq!(dialled, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_while_calls_go_on_and_none_fails() {
    let pod = pod().await;
    let session = Host::attach(&pod, &Store::default()).await;
    pod.renew_certificate();
    let renewed = async {
        let mut calls = 0;
        // A new connection makes the pod look; the old session and new ones go on meanwhile.
        while pod.has_logged("TLS material reloaded").is_none() {
            assert_eq!(session.call("getData", json!({})).await.unwrap(), 1);
            let other = Host::attach(&pod, &Store::default()).await;
            assert_eq!(other.call("getData", json!({})).await.unwrap(), 1);
            calls += 2;
        }
        calls
    };
    let calls = tokio::time::timeout(PATIENCE, renewed).await;
    assert!(calls.expect("the pod reads its new certificate") > 0);
    let limit = Duration::from_secs(15);
    let again = session
        .sender
        .call("getData", Bytes::new(), Bytes::new(), limit, false);
    assert_eq!(again.await.unwrap(), "1");
}
