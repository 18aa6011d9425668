//! The counting proxy in front of the npm registry.
//!
//! It passes requests on unchanged, with their `Host`, from which Verdaccio makes the
//! addresses of tarballs: who asks on one address is sent on to the same address.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::watch};

/// Where the proxy listens and what it stands before.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address for pods: counted, and closed while cut.
    #[arg(long)]
    pub pods: SocketAddr,
    /// Address for this machine: not counted, never closed.
    #[arg(long)]
    pub machine: SocketAddr,
    /// Address to read counts from, and to cut and restore.
    #[arg(long)]
    pub control: SocketAddr,
    /// The registry.
    #[arg(long)]
    pub upstream: String,
}

#[derive(Clone)]
struct Proxy {
    client: reqwest::Client,
    upstream: String,
    counts: Option<Arc<Counts>>,
}

#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    fn add(&self, path: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(path.to_owned()).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[derive(Clone)]
struct Control {
    counts: Arc<Counts>,
    /// What is wanted: whether pods are served.
    is_open: Arc<watch::Sender<bool>>,
    /// What is: whether the listener for pods exists.
    is_serving: watch::Receiver<bool>,
}

/// Serves until the process ends.
pub async fn serve(options: Options) -> Result<()> {
    let counts = Arc::new(Counts::default());
    let is_open = Arc::new(watch::Sender::new(true));
    let (serving, is_serving) = watch::channel(false);
    let machine = Proxy {
        client: reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()?,
        upstream: options.upstream.clone(),
        counts: None,
    };
    let pods = Proxy {
        counts: Some(counts.clone()),
        ..machine.clone()
    };
    let control = Router::new()
        .route("/counts", get(read_counts))
        .route("/reset", post(reset))
        .route("/cut", post(cut))
        .route("/restore", post(restore))
        .with_state(Control {
            counts,
            is_open: is_open.clone(),
            is_serving,
        });
    tokio::try_join!(
        serve_always(options.control, control),
        serve_always(options.machine, router(machine)),
        serve_while_open(options.pods, router(pods), is_open.subscribe(), serving),
    )?;
    Ok(())
}

fn router(proxy: Proxy) -> Router {
    Router::new().fallback(pass_on).with_state(proxy)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

async fn serve_always(address: SocketAddr, router: Router) -> Result<()> {
    axum::serve(listen(address).await?, router).await?;
    Ok(())
}

/// Listens while open. When cut, the listener is closed and connections are dropped with
/// the task that serves them, so a pod sees what it would see of a registry that is gone.
async fn serve_while_open(
    address: SocketAddr,
    router: Router,
    mut is_open: watch::Receiver<bool>,
    is_serving: watch::Sender<bool>,
) -> Result<()> {
    loop {
        is_open.wait_for(|open| *open).await?;
        let listener = listen(address).await?;
        is_serving.send_replace(true);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let router = router.clone();
        // Its own runtime: shutting it down ends every connection, also an idle one.
        let serving = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let listener = listener.into_std()?;
                let listener = TcpListener::from_std(listener)?;
                tokio::select! {
                    result = axum::serve(listener, router) => result.context("serve pods"),
                    _ = stopped => Ok(()),
                }
            })
        });
        is_open.wait_for(|open| !*open).await?;
        // The receiver is gone only if serving has ended by itself, which the join reports.
        let _ = stop.send(());
        tokio::task::spawn_blocking(move || serving.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the thread that serves pods panicked"))??;
        is_serving.send_replace(false);
    }
}

async fn read_counts(State(control): State<Control>) -> Json<BTreeMap<String, u64>> {
    Json(control.counts.all())
}

async fn reset(State(control): State<Control>) {
    control.counts.clear();
}

async fn cut(State(control): State<Control>) -> StatusCode {
    control.turn(false).await
}

async fn restore(State(control): State<Control>) -> StatusCode {
    control.turn(true).await
}

impl Control {
    /// Asks for a state and answers when it has come about.
    async fn turn(mut self, open: bool) -> StatusCode {
        self.is_open.send_replace(open);
        match self.is_serving.wait_for(|serving| *serving == open).await {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

async fn pass_on(State(proxy): State<Proxy>, request: Request) -> Response {
    match try_pass_on(&proxy, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn try_pass_on(proxy: &Proxy, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let answer = proxy
        .client
        .request(parts.method.clone(), format!("{}{target}", proxy.upstream))
        .headers(parts.headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send()
        .await?;
    if let Some(counts) = &proxy.counts
        && parts.method == Method::GET
        && answer.status().is_success()
    {
        counts.add(parts.uri.path());
    }
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != header::TRANSFER_ENCODING && name != header::CONNECTION {
            response = response.header(name, value);
        }
    }
    Ok(response.body(Body::from_stream(answer.bytes_stream()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_counted_by_itself() {
        let counts = Counts::default();
        for path in ["/zod", "/zod/-/zod-4.0.0.tgz", "/zod"] {
            counts.add(path);
        }
        assert_eq!(
            counts.all(),
            BTreeMap::from([("/zod".into(), 2), ("/zod/-/zod-4.0.0.tgz".into(), 1)])
        );
        counts.clear();
        assert!(counts.all().is_empty());
    }
}
