//! The bearer token a host is shown.
//!
//! By default it is a fresh token of the host's client account, which is worth nothing
//! elsewhere. The user's own token goes to a host only when the user says so: whoever
//! runs the host could use it against the API server.

use http::{Request, Response, header::AUTHORIZATION};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api,
    api::PostParams,
    client::{Body, ConfigExt},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::{args::Global, cluster::Cluster, error::Error};

/// The shortest life that the API server grants.
const LIFETIME_SECONDS: i64 = 600;

/// The token to show the host `namespace/name`.
///
/// # Errors
/// When the option asks for a token that the kubeconfig does not have, or the API
/// server does not issue one for the host's client account.
pub async fn for_host(
    cluster: &Cluster,
    global: &Global,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    match &global.token {
        Some(token) => Ok(token.clone()),
        None if global.own_token => of_kubeconfig(cluster).await,
        None => of_client_account(cluster, namespace, &format!("{name}-client")).await,
    }
}

async fn of_client_account(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
) -> Result<String, Error> {
    let api: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(LIFETIME_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let doing = format!(
        "request a token of ServiceAccount {namespace}/{account} (or give one with --token or --own-token)"
    );
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|source| Error::cluster(&doing, source))?;
    answer
        .status
        .and_then(|status| status.token)
        .ok_or_else(|| Error::NotReady {
            what: format!(
                "the API server issued no token for ServiceAccount {namespace}/{account}"
            ),
            hint: "try again, or give a token with --token".into(),
        })
}

/// The token of the kubeconfig, from wherever it says: a field, a file, or a command.
async fn of_kubeconfig(cluster: &Cluster) -> Result<String, Error> {
    let none = || Error::Input {
        what: "--own-token: the kubeconfig authenticates without a bearer token".into(),
    };
    let layer = cluster
        .config()
        .auth_layer()
        .map_err(|source| Error::cluster("read the token of the kubeconfig", source))?
        .ok_or_else(none)?;
    // The layer puts the header on requests; this one goes no further.
    let echo = service_fn(|request: Request<Body>| async move {
        Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
    });
    let mut service = layer.layer(echo);
    let header = async {
        service
            .ready()
            .await?
            .call(Request::new(Body::empty()))
            .await
    }
    .await
    .map_err(Error::Kubeconfig)?
    .into_body();
    header
        .as_ref()
        .and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "))
        .map(str::to_owned)
        .ok_or_else(none)
}
