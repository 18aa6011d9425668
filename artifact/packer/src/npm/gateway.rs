//! The registry that npm sees: a server on loopback that answers with what the real one has.
//!
//! npm is pointed here for metadata and given no other address, so redirects, addresses and sizes are
//! decided by [`RegistryClient`]. It gets a token of this run in place of the platform's
//! credential: npm's process, which parses what strangers wrote, holds nothing worth having,
//! and no other process on the machine can use the credential through the gateway.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use paperclip_artifact::limits;

use crate::npm::registry::{Answer, FetchError, RegistryClient};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// One gateway for each registry; they end with the value.
#[derive(Debug)]
pub struct Gateways {
    doors: Vec<Door>,
    token: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Door {
    /// None is the registry of packages without a scope of their own.
    scope: Option<String>,
    inside: Url,
    outside: Url,
    server: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Shared {
    client: RegistryClient,
    at_once: Semaphore,
    authorization: String,
    fault: Mutex<Option<FetchError>>,
}

#[derive(Clone)]
struct Gateway {
    shared: Arc<Shared>,
    outside: Url,
}

impl Gateways {
    /// Listens on free ports of loopback.
    ///
    /// # Errors
    /// When the system gives no port or no random bytes.
    pub async fn open(client: RegistryClient) -> io::Result<Self> {
        let token = token()?;
        let bases: Vec<_> = std::iter::once((None, client.base.clone()))
            .chain(
                client
                    .scopes
                    .iter()
                    .map(|(scope, url)| (Some(scope.clone()), url.clone())),
            )
            .collect();
        let shared = Arc::new(Shared {
            client,
            at_once: Semaphore::new(limits::METADATA_AT_ONCE),
            authorization: format!("Bearer {token}"),
            fault: Mutex::new(None),
        });
        let mut doors = Vec::new();
        for (scope, outside) in bases {
            doors.push(open(scope, outside, Arc::clone(&shared)).await?);
        }
        Ok(Self {
            doors,
            token,
            shared,
        })
    }

    /// URL of the registry as npm is to see it.
    #[must_use]
    pub fn url(&self) -> &str {
        self.doors.first().map_or("", |door| door.inside.as_str())
    }

    /// URL of the registry of a package as npm is to see it.
    #[must_use]
    pub fn url_of(&self, package: &str) -> &str {
        let scope = package.split_once('/').map(|(scope, _)| scope);
        let mut doors = self.doors.iter();
        let door = doors.find(|door| door.scope.is_some() && door.scope.as_deref() == scope);
        door.map_or(self.url(), |door| door.inside.as_str())
    }

    /// The `.npmrc` that leads npm here.
    #[must_use]
    pub fn npmrc(&self) -> String {
        let token = &self.token;
        let mut lines = String::new();
        for Door { scope, inside, .. } in &self.doors {
            let place = inside.as_str().trim_start_matches("http:");
            lines += &format!("{place}:_authToken={token}\n");
            if let Some(scope) = scope {
                lines += &format!("{scope}:registry={inside}\n");
            }
        }
        lines
    }

    /// The client behind them.
    #[must_use]
    pub fn client(&self) -> &RegistryClient {
        &self.shared.client
    }

    /// What went wrong since the last call that npm knows nothing of.
    #[must_use]
    pub fn take_fault(&self) -> Option<FetchError> {
        self.shared.fault().take()
    }

    /// Words of npm with the registry's own URL in place of the gateway's.
    #[must_use]
    pub fn outside(&self, message: &str) -> String {
        self.doors.iter().fold(message.to_owned(), |message, door| {
            message.replace(door.inside.as_str(), door.outside.as_str())
        })
    }
}

impl Shared {
    fn fault(&self) -> std::sync::MutexGuard<'_, Option<FetchError>> {
        // A value that is only replaced is sound after any panic.
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(scope: Option<String>, outside: Url, shared: Arc<Shared>) -> io::Result<Door> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let inside =
        Url::parse(&format!("http://{address}{}", outside.path())).map_err(io::Error::other)?;
    let router = Router::new().fallback(serve).with_state(Gateway {
        shared,
        outside: outside.clone(),
    });
    let server = tokio::spawn(async move {
        // It ends when the task is aborted, and only then.
        let _ = axum::serve(listener, router).await;
    });
    Ok(Door {
        scope,
        inside,
        outside,
        server,
    })
}

async fn serve(State(gateway): State<Gateway>, request: Request) -> Response {
    let shared = &gateway.shared;
    let authorization = request.headers().get(AUTHORIZATION);
    if authorization.is_none_or(|found| found != shared.authorization.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if request.method() != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let mut url = gateway.outside.clone();
    url.set_path(request.uri().path());
    url.set_query(request.uri().query());
    let Ok(_permit) = shared.at_once.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let accept = request.headers().get(ACCEPT);
    match shared.client.answer(&url, accept, limits::METADATA).await {
        Ok(answer) => pass(answer),
        Err(error) => {
            // npm tries again what the status calls transient.
            let status = if error.is_transient() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            *shared.fault() = Some(error);
            status.into_response()
        }
    }
}

fn pass(answer: Answer) -> Response {
    let mut response = (answer.status, answer.content).into_response();
    if let Some(content_type) = answer.content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// 256 bits that nobody else on this machine knows.
fn token() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
