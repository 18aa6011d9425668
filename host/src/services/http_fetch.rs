//! `http.fetch`: requests that workers make through the host.
//!
//! The host resolves the name itself, keeps only addresses that plugins may
//! reach and connects to one of those, so a name that changes its address
//! between the check and the connection gains nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use ipnet::IpNet;
use paperclip_error_chain::chain;
use paperclip_net_guard::public;
use reqwest::{
    Client, Method, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};

use crate::rpc::Fault;

/// Time for a whole request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time for its name to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body that is read, in bytes.
const BODY_LIMIT: usize = 200 << 20;

/// Makes requests for workers.
#[derive(Clone, Debug)]
pub struct HttpFetch {
    client: Client,
    allowed: Arc<[IpNet]>,
}

#[derive(Deserialize)]
struct Params {
    url: String,
    #[serde(default)]
    init: Option<Init>,
}

#[derive(Default, Deserialize)]
struct Init {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
}

/// What the worker gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetched {
    status: u16,
    status_text: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl HttpFetch {
    /// A client that reaches public addresses and the allowed ranges.
    pub fn new(allowed: &[IpNet]) -> Result<Self, reqwest::Error> {
        let allowed: Arc<[IpNet]> = allowed.into();
        let client = Client::builder()
            .user_agent(concat!("paperclip-host/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .dns_resolver(Arc::new(Resolver {
                allowed: Arc::clone(&allowed),
            }))
            .build()?;
        Ok(Self { client, allowed })
    }

    /// Answers one `http.fetch`.
    pub async fn fetch(&self, params: &[u8]) -> Result<Fetched, Fault> {
        let params: Params = serde_json::from_slice(params).map_err(|error| {
            Fault::internal(format!("params of http.fetch cannot be read: {error}"))
        })?;
        let url = self.vet(&params.url)?;
        let shown = shown(&url);
        let init = params.init.unwrap_or_default();
        let mut request = self
            .client
            .request(method(init.method.as_deref())?, url)
            .headers(headers(&init.headers)?);
        if let Some(body) = init.body {
            request = request.body(body);
        }
        let failed = |error: reqwest::Error| {
            Fault::internal(format!(
                "http.fetch of {shown}: {}",
                chain(&error.without_url())
            ))
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let headers = answered(response.headers());
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed)?;
            if body.len() + piece.len() > BODY_LIMIT {
                return Err(Fault::internal(format!(
                    "http.fetch of {shown}: the answer is larger than {BODY_LIMIT} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Fetched {
            status: status.as_u16(),
            status_text: status.canonical_reason().unwrap_or_default().to_owned(),
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Checks what the resolver never sees: the scheme, and hosts that are addresses.
    fn vet(&self, text: &str) -> Result<Url, Fault> {
        let url = Url::parse(text)
            .map_err(|error| Fault::internal(format!("http.fetch: {text:?} is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::internal(format!(
                "http.fetch: scheme {:?}, wanted http or https",
                url.scheme()
            )));
        }
        let host = url.host_str().unwrap_or_default();
        let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        match literal {
            Some(address) if !public::is_allowed(address, &self.allowed) => Err(Fault::internal(
                format!("http.fetch: {}", Refused(host.to_owned())),
            )),
            _ => Ok(url),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} leads to a private, loopback or link-local address, which plugins may not reach")]
struct Refused(String);

#[derive(Debug, thiserror::Error)]
#[error("the name {0} was not resolved in time")]
struct ResolvedTooSlowly(String);

struct Resolver {
    allowed: Arc<[IpNet]>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.as_str(), 0)))
                    .await
                    .map_err(|_| ResolvedTooSlowly(host.clone()))??
                    .filter(|address| public::is_allowed(address.ip(), &allowed))
                    .collect();
            if found.is_empty() {
                return Err(Refused(host).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn method(text: Option<&str>) -> Result<Method, Fault> {
    let text = text.unwrap_or("GET").to_ascii_uppercase();
    Method::from_bytes(text.as_bytes())
        .map_err(|_| Fault::internal(format!("http.fetch: {text:?} is no HTTP method")))
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, Fault> {
    given
        .iter()
        .map(|(name, value)| {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .zip(HeaderValue::from_str(value).ok());
            parsed
                .ok_or_else(|| Fault::internal(format!("http.fetch: header {name:?} is not valid")))
        })
        .collect()
}

fn answered(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut answered: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        answered
            .entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    answered
}

/// The URL without what may be secret in it.
fn shown(url: &Url) -> String {
    format!(
        "{}://{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    )
}
