//! The state of the pod as a gRPC service, for the operator.

use std::{pin::Pin, sync::Arc};

use paperclip_bridge::{
    facts::Facts,
    v1::{
        WatchStatusRequest, WatchStatusResponse, plugin_status_service_server::PluginStatusService,
    },
};
use paperclip_identity::Identity;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as GrpcStatus};

use super::bridge::require;
use crate::{multiplexer::Multiplexer, state::PodState};

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
        let (activation, artifact_digest) = (self.activation, self.artifact_digest.clone());
        let states = WatchStream::new(self.multiplexer.state.subscribe())
            .map(move |state| Ok(response(activation, &artifact_digest, state)));
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::pin!(states);
            loop {
                tokio::select! {
                    state = states.next() => {
                        let Some(state) = state else { return };
                        if sender.send(state).await.is_err() { return; }
                    }
                    () = sender.closed() => return,
                    () = stop.cancelled() => return,
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
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
