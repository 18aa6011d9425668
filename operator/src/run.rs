//! A whole life of the operator: leader election, the controllers, and the end of both.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args, context::Context, errors::chain, health, host, leader::Candidate, metrics::Metrics,
    nodes, plugin, trust_policy,
};

/// Longest time to release the Lease, which else expires by itself.
const RELEASE: Duration = Duration::from_secs(5);
/// Period in which the platform's own certificates are checked.
const RENEWAL: Duration = Duration::from_secs(3600);
/// A claim that is left over costs nothing; whoever wants it takes it over at once.
const SWEEP: Duration = Duration::from_secs(300);

/// The error that ends the operator.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Waits for the leader's Lease, then reconciles until SIGTERM or SIGINT.
///
/// # Errors
/// When the cluster cannot be reached, the platform's Secrets are unusable, or the Lease is
/// lost.
pub async fn run(args: Args) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let metrics = Arc::new(Metrics::default());
    let health = tokio::spawn(health::serve(
        args.listen,
        metrics.clone(),
        stop.child_token(),
    ));
    let client = Client::try_default().await?;
    let mut candidate = Candidate::new(client.clone(), &args.namespace, &args.pod_name);
    let led = lead(&mut candidate, client, args, metrics, &stop).await;
    stop.cancel();
    match tokio::time::timeout(RELEASE, candidate.release()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "giving up the leader's Lease failed");
        }
        Err(_) => tracing::warn!("giving up the leader's Lease took too long"),
    }
    health.await??;
    led
}

/// Waits for the Lease and works while it is held. Fails when it is lost, which ends the
/// process; the module of the Lease says why.
async fn lead(
    candidate: &mut Candidate,
    client: Client,
    args: Args,
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    if !candidate.acquire(stop).await {
        return Ok(());
    }
    tracing::info!("this replica leads");
    metrics.leads(true);
    let work = stop.child_token();
    let working = tokio::spawn(work_until(client, args, metrics, work.clone()));
    let mut working = std::pin::pin!(working);
    tokio::select! {
        lost = candidate.hold(stop) => {
            if lost {
                // Reconciles under way must not write at the same time as the next leader's.
                working.abort();
                return Err("the leader's Lease was lost".into());
            }
            work.cancel();
            (&mut working).await?
        }
        ended = &mut working => ended?,
    }
}

async fn work_until(
    client: Client,
    args: Args,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let context = Arc::new(Context::prepare(client, args, metrics).await?);
    tokio::join!(
        plugin::run(context.clone(), stop.clone()),
        host::run(context.clone(), stop.clone()),
        nodes::run(context.clone(), stop.clone()),
        trust_policy::run(context.clone(), stop.clone()),
        renew(context.clone(), stop.clone()),
        sweep(context, stop),
    );
    Ok(())
}

async fn renew(context: Arc<Context>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(RENEWAL))
        .await
        .is_some()
    {
        if let Err(error) = context.renew().await {
            tracing::warn!(
                error = chain(&error),
                "renewing the platform's certificates failed"
            );
        }
    }
}

/// Removes what plugins left behind that no owner reference cleans up.
async fn sweep(context: Arc<Context>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(SWEEP))
        .await
        .is_some()
    {
        let sweeping = Box::pin(plugin::sweep(&context));
        let swept = stop.run_until_cancelled(sweeping).await;
        if let Some(Err(error)) = swept {
            tracing::warn!(
                error = chain(&error),
                "removing claims of deleted plugins failed"
            );
        }
    }
}

fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
