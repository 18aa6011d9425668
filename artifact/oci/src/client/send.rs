//! Requests and answers: retried while a fault may pass, with a token where one is wanted, bounded.

use std::path::PathBuf;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, Url};

use crate::client::StoreClient;
use crate::client::StoreError;
use crate::token;

/// Attempts after the first one, for faults that pass.
const RETRIES: usize = 5;

impl StoreClient {
    pub(super) fn url(&self, path: &str) -> Result<Url, StoreError> {
        let repository_is_sound = path.split('/').all(|part| !matches!(part, "." | ".."));
        match self.base.join(path) {
            Ok(url) if repository_is_sound && url.path().starts_with("/v2/") => Ok(url),
            _ => Err(StoreError::Setup {
                address: self.address.clone(),
                why: format!("`{path}` is no path"),
            }),
        }
    }

    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.credentials {
            Some(c) => request.basic_auth(&c.username, Some(&c.password)),
            None => request,
        }
    }

    pub(super) async fn send(
        &self,
        action: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, StoreError> {
        let attempt = || self.send_once(action, request());
        attempt
            .retry(backoff())
            .when(StoreError::is_transient)
            .await
    }

    pub(super) async fn send_once(
        &self,
        action: &str,
        request: RequestBuilder,
    ) -> Result<Response, StoreError> {
        let failed = |source| self.unreachable(action, source);
        let mut request = request.build().map_err(failed)?;
        let again = request.try_clone();
        self.token.authorise(&mut request);
        let mut response = self.http.execute(request).await.map_err(failed)?;
        if let (Some(place), Some(mut request)) = (token::place(&response), again) {
            self.renew_token(place).await?;
            self.token.authorise(&mut request);
            response = self.http.execute(request).await.map_err(failed)?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(self.refused(action, response).await)
    }

    async fn renew_token(&self, place: Url) -> Result<(), StoreError> {
        const ACTION: &str = "get a token";
        let request = self.request(Method::GET, place);
        let answer = request.send().await;
        let answer = answer.map_err(|source| self.unreachable(ACTION, source))?;
        if !answer.status().is_success() {
            return Err(self.refused(ACTION, answer).await);
        }
        let mut content = Vec::new();
        self.read(ACTION, answer, token::MAX_ANSWER, &mut content)
            .await?;
        let renewed = self.token.renew(&content);
        renewed.map_err(|why| self.mismatch(ACTION, why))
    }

    /// Reads at most `limit` bytes of an answer.
    pub(super) async fn read<W: std::io::Write>(
        &self,
        action: &str,
        response: Response,
        limit: u64,
        sink: &mut W,
    ) -> Result<(), StoreError> {
        let mut left = limit;
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| self.unreachable(action, source))?;
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| self.mismatch(action, &format!("more than {limit} bytes")))?;
            sink.write_all(&chunk).map_err(|source| StoreError::Write {
                path: PathBuf::from(action),
                source,
            })?;
        }
        Ok(())
    }

    pub(super) async fn refused(&self, action: &str, response: Response) -> StoreError {
        let status = response.status();
        let mut message = Vec::new();
        // Best effort: the status is what counts.
        let _ = self.read(action, response, 4096, &mut message).await;
        let message = String::from_utf8_lossy(&message)
            .chars()
            .take(300)
            .collect();
        StoreError::Refused {
            address: self.address.clone(),
            action: action.to_owned(),
            status,
            message,
        }
    }

    pub(super) fn unreachable(&self, action: &str, source: reqwest::Error) -> StoreError {
        StoreError::Unreachable {
            address: self.address.clone(),
            action: action.to_owned(),
            source,
        }
    }
}

pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(RETRIES)
        .with_jitter()
}
