//! An HTTP server in memory that answers by a function and records its requests.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, StatusCode, header::AUTHORIZATION},
    response::Response,
};
use tokio::net::TcpListener;

/// A request that came in, and the status of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its method.
    pub method: Method,
    /// Its path, as it was sent.
    pub path: String,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// Status of the answer.
    pub status: StatusCode,
}

/// The server, on a free port. It ends with the runtime.
#[derive(Clone)]
pub struct HttpServer {
    address: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl HttpServer {
    /// Answers every request by this function.
    ///
    /// # Panics
    /// When this machine has no free port.
    pub async fn start(
        answer: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1", answer).await
    }

    /// The same at an address of this machine.
    ///
    /// # Panics
    /// When the address is none of this machine.
    pub async fn start_at(
        ip: &str,
        answer: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let requests: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let record = Arc::clone(&requests);
        let router = Router::new().fallback(move |request: Request<Body>| {
            let response = answer(&request);
            let authorization = request.headers().get(AUTHORIZATION);
            let recorded = Recorded {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                authorization: authorization
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                status: response.status(),
            };
            record
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(recorded);
            async { response }
        });
        Self {
            address: serve_at(ip, router).await,
            requests,
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Serves a router on a free port of the loopback address until the runtime ends, and gives
/// `host:port`.
///
/// # Panics
/// When this machine has no free port.
pub async fn serve(router: Router) -> String {
    serve_at("127.0.0.1", router).await
}

async fn serve_at(ip: &str, router: Router) -> String {
    let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("127.0.0.1:{port}")
}
