//! A registry that wants tokens, as the large public ones do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use paperclip_error_chain::chain;
use paperclip_oci::client::{Credentials, StoreClient, StoreError, StoreOptions};

/// Where the registry is, and how many tokens were given out.
#[derive(Clone)]
struct Registry {
    address: String,
    given: Arc<AtomicUsize>,
}

fn authorization(headers: &HeaderMap) -> &str {
    let found = headers.get(header::AUTHORIZATION);
    found.map_or("", |value| value.to_str().unwrap())
}

async fn manifest(State(registry): State<Registry>, headers: HeaderMap) -> Response {
    if authorization(&headers) == "Bearer one-time" {
        return "{}".into_response();
    }
    let realm = format!("http://{}/token", registry.address);
    let challenge = format!(r#"Bearer realm="{realm}",service="r",scope="repository:p:pull""#);
    let headers = [(header::WWW_AUTHENTICATE, challenge)];
    (StatusCode::UNAUTHORIZED, headers, "who are you?").into_response()
}

async fn token(
    State(registry): State<Registry>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    assert_eq!(
        query.as_deref(),
        Some("service=r&scope=repository%3Ap%3Apull")
    );
    // me:secret
    if authorization(&headers) != "Basic bWU6c2VjcmV0" {
        return (StatusCode::UNAUTHORIZED, "not you").into_response();
    }
    registry.given.fetch_add(1, Ordering::Relaxed);
    r#"{"token": "one-time"}"#.into_response()
}

#[tokio::test]
async fn token_is_fetched_once_with_the_credential_and_sent_from_then_on() {
    crate::install_crypto();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = Registry {
        address: listener.local_addr().unwrap().to_string(),
        given: Arc::default(),
    };
    let router = Router::new()
        .route("/v2/p/manifests/x", get(manifest))
        .route("/token", get(token))
        .with_state(registry.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let store = |password: &str| {
        StoreClient::new(StoreOptions {
            credentials: Some(Credentials {
                username: "me".into(),
                password: password.into(),
            }),
            ..StoreOptions::plain(&registry.address)
        })
        .unwrap()
    };
    let honest = store("secret");
    for client in [honest.clone(), honest] {
        assert!(client.tagged_bytes("p", "x").await.unwrap().is_some());
    }
    assert_eq!(registry.given.load(Ordering::Relaxed), 1);

    let error = store("guess").tagged_bytes("p", "x").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused { status, .. } if status.as_u16() == 401),
        "{error}"
    );
    assert!(!chain(&error).contains("guess"), "{error}");
}
