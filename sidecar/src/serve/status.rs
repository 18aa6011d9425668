//! The state of the pod as a gRPC service, for the operator.

use std::{pin::Pin, sync::Arc};

use paperclip_bridge::{
    facts::Facts,
    v1::{
        WatchStatusRequest, WatchStatusResponse, plugin_status_service_server::PluginStatusService,
    },
};
use paperclip_identity::Identity;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as GrpcStatus};

use super::bridge::require;
use crate::{multiplexer::Multiplexer, state::PodState, watch};

/// The service.
#[derive(Debug)]
pub struct Status {
    multiplexer: Arc<Multiplexer>,
    activation: u64,
    artifact_digest: String,
    stop: CancellationToken,
}

impl Status {
    /// Tells the operator of `multiplexer` until `stop`.
    pub fn new(multiplexer: Arc<Multiplexer>, facts: &Facts, stop: CancellationToken) -> Self {
        Self {
            multiplexer,
            activation: facts.activation,
            artifact_digest: facts.artifact_digest.clone(),
            stop,
        }
    }
}

#[tonic::async_trait]
impl PluginStatusService for Status {
    type WatchStatusStream =
        Pin<Box<dyn Stream<Item = Result<WatchStatusResponse, GrpcStatus>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, GrpcStatus> {
        require(&request, &Identity::Operator)?;
        let (sender, receiver) = mpsc::channel(1);
        let states = self.multiplexer.state.subscribe();
        let (activation, digest) = (self.activation, self.artifact_digest.clone());
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let sending = send_states(states, &sender, activation, &digest);
            tokio::select! {
                () = sending => {}
                () = sender.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        let stream = ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Sends the state now and at every change, until nobody listens.
async fn send_states(
    mut states: watch::Receiver<PodState>,
    to: &mpsc::Sender<Result<WatchStatusResponse, GrpcStatus>>,
    activation: u64,
    digest: &str,
) {
    loop {
        let state = states.borrow_and_update().clone();
        let response = response(activation, digest, state);
        if to.send(Ok(response)).await.is_err() || states.changed().await.is_err() {
            return;
        }
    }
}

fn response(activation: u64, artifact_digest: &str, state: PodState) -> WatchStatusResponse {
    WatchStatusResponse {
        config: Some(state.config),
        egress: state.egress.into(),
        activation,
        artifact_digest: artifact_digest.to_owned(),
        phase: state.phase.into(),
        worker: Some(state.worker),
        hosts: state.hosts,
        capabilities: state.capabilities,
    }
}
