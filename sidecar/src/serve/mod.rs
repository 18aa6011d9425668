//! `paperclip-sidecar`: everything joined, until told to stop.

mod bridge;
mod health;
mod status;

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use paperclip_bridge::{
    FILE_DESCRIPTOR_SET,
    facts::{self, Facts},
    tls::ServerTls,
    trace::Traces,
    v1::{
        plugin_bridge_service_server::PluginBridgeServiceServer,
        plugin_status_service_server::PluginStatusServiceServer,
    },
};
use paperclip_identity::Identity;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{
    args::ServeArgs,
    config::follow::follow,
    drain, egress,
    grants::{self, Grants},
    multiplexer::Multiplexer,
    package::Package,
    shim,
    supervisor::{self, Stopping, WorkerPlan},
};

/// Flow-control windows of HTTP/2; the default of 64 KiB would stop large frames often.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Serves until SIGTERM or SIGINT, or until the worker container is asked to stop and then this one.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let facts = read_facts(&args)?;
    let package = Package::read(&args.artifact_dir)?;
    let plan = WorkerPlan::new(
        &package,
        &facts,
        &args.artifact_dir,
        &args.node,
        &args.worker_path,
        args.worker_memory_bytes,
        Duration::from_millis(args.health_interval_ms),
    )
    .context("building the params of initialize")?;
    let tls = ServerTls::from_dir(&args.tls_dir)?;
    let traces = Traces::from_env("paperclip-sidecar")?;
    let multiplexer = Multiplexer::traced(granted(&facts, &package), traces.clone());
    let stop = CancellationToken::new();

    let grpc = TcpListener::bind(args.grpc_listen)
        .await
        .with_context(|| format!("listening on {} for hosts", args.grpc_listen))?;
    let health = TcpListener::bind(args.health_listen)
        .await
        .with_context(|| format!("listening on {} for probes", args.health_listen))?;
    let (shim, events) = shim::listen(&args.socket)
        .with_context(|| format!("listening on {} for the shim", args.socket.display()))?;
    tracing::info!(grpc = %grpc.local_addr()?, health = %health.local_addr()?, "listening");

    let stopping = Stopping::default();
    let terminating = CancellationToken::new();
    let gate = multiplexer.gate.clone();
    let delivered = follow(args.config_dir.clone(), facts.activation, gate);
    let supervisor = tokio::spawn(supervisor::run(
        multiplexer.clone(),
        shim.clone(),
        plan,
        delivered,
        stopping.clone(),
        events,
        terminating.clone(),
    ));
    let pod_name = pod_name(&args);
    let routes = routes(&multiplexer, &facts, &package, &pod_name, &stop).await?;
    let bridge = tokio::spawn(
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(paperclip_bridge::link::PING_INTERVAL))
            .http2_keepalive_timeout(Some(paperclip_bridge::link::DEAD_AFTER))
            .add_routes(routes)
            .serve_with_incoming_shutdown(tls.accept(grpc), stop.clone().cancelled_owned()),
    );
    let probes = tokio::spawn(health::serve(health, multiplexer.clone(), stop.clone()));

    if let Some(host) = args.egress_probe_host {
        let (board, stop) = (multiplexer.clone(), stop.clone());
        let target = SocketAddr::new(host, args.egress_probe_port);
        tokio::spawn(async move { egress::watch(&board.state, target, stop).await });
    }

    let board = multiplexer.clone();
    let shown = tokio::spawn(async move { grants::show(board.grants.clone(), &board.state).await });

    wait_to_drain(&terminating).await?;
    drain::run(&multiplexer, &shim, &stopping).await;
    if terminating.is_cancelled() {
        // The worker's container goes first; this one stays until it is its turn.
        stop_signal().await?;
    }
    stop.cancel();
    shown.abort();
    supervisor.abort();
    let (bridge, probes) = tokio::join!(bridge, probes);
    tokio::task::spawn_blocking(move || traces.shut_down())
        .await
        .context("sending the last traces")?;
    bridge.context("serving hosts")?.context("serving hosts")?;
    probes.context("serving probes")?.context("serving probes")
}

/// Capabilities of the worker: those that are granted and declared.
fn granted(facts: &Facts, package: &Package) -> Grants {
    let granted = facts.granted.iter().cloned().collect();
    Grants::new(&package.capabilities, &granted)
}

fn read_facts(args: &ServeArgs) -> anyhow::Result<Facts> {
    let path = args.facts_dir.join(facts::FILE_NAME);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
}

/// The name that is stated, or that of the machine, which is the pod's as far as 63 letters go.
fn pod_name(args: &ServeArgs) -> String {
    let stated = Some(args.pod_name.clone()).filter(|name| !name.is_empty());
    let machine = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    stated.unwrap_or_else(|| machine().trim().to_owned())
}

async fn routes(
    multiplexer: &Arc<Multiplexer>,
    facts: &Facts,
    package: &Package,
    pod_name: &str,
    stop: &CancellationToken,
) -> anyhow::Result<Routes> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<PluginBridgeServiceServer<bridge::Bridge>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("building the reflection service")?;
    let host = Identity::Host {
        namespace: facts.host.namespace.clone(),
        name: facts.host.name.clone(),
    };
    let bridge = bridge::Bridge::new(
        multiplexer.clone(),
        host,
        bridge::hello(facts, package, pod_name)?,
        stop.clone(),
    );
    let status = status::Status::new(multiplexer.clone(), facts, stop.clone());
    Ok(Routes::new(PluginBridgeServiceServer::new(bridge))
        .add_service(PluginStatusServiceServer::new(status))
        .add_service(health_service)
        .add_service(reflection))
}

/// Waits until this container or the worker's is asked to stop.
async fn wait_to_drain(terminating: &CancellationToken) -> std::io::Result<()> {
    tokio::select! {
        stopped = stop_signal() => stopped,
        () = terminating.cancelled() => Ok(()),
    }
}

async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
