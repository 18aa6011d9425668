//! Small HTTP requests for callers that are not asynchronous, and for those that are.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};

/// Runs a future to its end on a thread of its own, whatever the caller runs in.
///
/// # Errors
/// That of the future.
pub fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    on_a_thread(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(future)
    })
}

/// Runs something on a thread of its own, where it may block whatever the caller runs in.
pub fn on_a_thread<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(run);
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

/// Body of a successful GET.
pub fn get(url: &str) -> Result<String> {
    send(url, |client| client.get(url))
}

/// Body of a successful POST without a body.
pub fn post(url: &str) -> Result<String> {
    send(url, |client| client.post(url))
}

/// Body of a successful PUT of JSON, with a bearer token.
pub fn put_json(url: &str, token: &str, body: &serde_json::Value) -> Result<String> {
    send(url, |client| client.put(url).bearer_auth(token).json(body))
}

fn send(
    url: &str,
    request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder + Send,
) -> Result<String> {
    block_on(async move {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()?;
        let answer = request(&client)
            .send()
            .await
            .with_context(|| format!("ask {url}"))?;
        let answer = answer
            .error_for_status()
            .with_context(|| format!("ask {url}"))?;
        Ok(answer.text().await?)
    })
}
