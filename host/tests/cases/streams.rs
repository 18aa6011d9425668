//! Streams of workers as server-sent events.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use paperclip_host::COMPANY_ID;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    PLUGIN, ready,
    support::{
        Host,
        pod::{Link, Settings},
        read,
    },
};

/// The events of a response, each as it was written.
struct Events {
    bytes: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    text: String,
}

impl Events {
    async fn listen(host: &Host, channel: &str) -> Self {
        let path = format!("{PLUGIN}/bridge/stream/{channel}?companyId={COMPANY_ID}");
        let answer = host.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = Self {
            bytes: Box::pin(answer.bytes_stream()),
            text: String::new(),
        };
        assert_eq!(events.next().await.as_deref(), Some(": ok"));
        events
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                return Some(event);
            }
            let more = self.bytes.next().await?.ok()?;
            self.text.push_str(std::str::from_utf8(&more).unwrap());
        }
    }
}

async fn tell(link: &Link, what: &str, event: Option<Value>) {
    let mut params = json!({"channel": "tokens", "companyId": COMPANY_ID});
    if let Some(event) = event {
        params["event"] = event;
    }
    link.tell(&format!("streams.{what}"), params, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_tells_reaches_every_reader_until_the_worker_goes() {
    let (_ca, mut pod, host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    let mut one = Events::listen(&host, "tokens").await;
    let mut two = Events::listen(&host, "tokens").await;
    let _other = Events::listen(&host, "other").await;
    tell(&link, "open", None).await;
    tell(&link, "emit", Some(json!({"text": "hel\nlo"}))).await;
    // Said on behalf of an invocation that the host does not know, hence dropped.
    let forged = json!({"channel": "tokens", "companyId": COMPANY_ID, "event": "forged"});
    link.tell("streams.emit", forged, "unknown").await;
    tell(&link, "close", None).await;
    tell(&link, "open", None).await;
    link.end().await;
    for events in [&mut one, &mut two] {
        assert_eq!(
            events.next().await.as_deref(),
            Some("event: open\ndata: {}")
        );
        assert_eq!(
            events.next().await.as_deref(),
            Some(r#"data: {"text":"hel\nlo"}"#)
        );
        assert_eq!(
            events.next().await.as_deref(),
            Some("event: close\ndata: {}")
        );
        assert_eq!(
            events.next().await.as_deref(),
            Some("event: open\ndata: {}")
        );
        assert_eq!(
            events.next().await.as_deref(),
            Some("event: close\ndata: {}")
        );
    }
    // Open streams do not hold up a host that stops.
    host.stop().await;
    assert_eq!(one.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_dropped_and_stalls_nobody() {
    const EVENTS: usize = 600;
    let (_ca, mut pod, host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    let idle = Events::listen(&host, "tokens").await;
    let mut quick = Events::listen(&host, "tokens").await;
    let text = "x".repeat(64 * 1024);
    for n in 0..EVENTS {
        tell(&link, "emit", Some(json!({"n": n, "text": text}))).await;
        let event = quick.next().await.unwrap();
        assert!(event.starts_with(&format!(r#"data: {{"n":{n},"#)), "{n}");
    }
    let (_, metrics) = host.health("/metrics").await;
    let dropped = "paperclip_host_stream_readers_dropped_total 1";
    assert!(metrics.contains(dropped), "{metrics}");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_of_the_one_company_and_needs_a_token() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    let path = format!("{PLUGIN}/bridge/stream/tokens");
    let (status, _) = host.anonymous(Method::GET, &path).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let path = format!("{path}?companyId=7c1d0a52-0d2e-4c58-9a55-2f6d0f4f9b10");
    let answer = host.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(read(answer).await.0, StatusCode::FORBIDDEN);
}
