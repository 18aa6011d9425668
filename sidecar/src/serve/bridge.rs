//! The bridge as a gRPC service, for the one host of the facts.

use std::{pin::Pin, sync::Arc, time::Duration};

use paperclip_bridge::{
    facts::Facts,
    status::to_status,
    tls::Peer,
    v1::{
        CallRequest, CallResponse, HostHello, PluginHello, SessionRequest, SessionResponse,
        plugin_bridge_service_server::PluginBridgeService, session_request,
    },
};
use paperclip_identity::Identity;
use paperclip_protocol::methods::{self, Handling};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    multiplexer::{self, Call, Multiplexer},
    package::Package,
};

/// How much before its client's limit a call ends at most.
const EARLY: Duration = Duration::from_millis(100);
/// How long a host may take over its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames that wait for the network.
const QUEUE: usize = 256;

/// This pod's hello, without what changes.
pub fn hello(
    facts: &Facts,
    package: &Package,
    pod_name: &str,
) -> Result<PluginHello, serde_json::Error> {
    Ok(PluginHello {
        plugin_namespace: facts.plugin_namespace.clone(),
        plugin_name: facts.plugin_name.clone(),
        plugin_uid: facts.plugin_uid.clone(),
        pod_name: pod_name.to_owned(),
        artifact_digest: facts.artifact_digest.clone(),
        activation: facts.activation,
        manifest_json: package.manifest_json.clone(),
        ..PluginHello::default()
    })
}

/// The service.
#[derive(Debug)]
pub struct Bridge {
    multiplexer: Arc<Multiplexer>,
    host: Identity,
    hello: PluginHello,
    stop: CancellationToken,
}

impl Bridge {
    /// Serves `host` alone.
    pub fn new(
        multiplexer: Arc<Multiplexer>,
        host: Identity,
        hello: PluginHello,
        stop: CancellationToken,
    ) -> Self {
        Self {
            multiplexer,
            host,
            hello,
            stop,
        }
    }
}

#[tonic::async_trait]
impl PluginBridgeService for Bridge {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        require(&request, &self.host)?;
        let stream = request.into_inner();
        let (frames, queue) = mpsc::channel(QUEUE);
        let (multiplexer, ours) = (self.multiplexer.clone(), self.hello.clone());
        let (host, stop) = (self.host.clone(), self.stop.clone());
        // The answer begins at once: a client may wait for it before it says hello.
        tokio::spawn(async move {
            let mut stream = stream;
            if let Some(theirs) = host_hello(&mut stream, &host).await {
                multiplexer::serve_session(multiplexer, theirs, ours, stream, frames, stop).await;
            }
        });
        let answers = ReceiverStream::new(queue).map(Ok);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        require(&request, &self.host)?;
        let timeout = deadline(&request)?.unwrap_or_default();
        let traceparent = request.metadata().get("traceparent");
        let traceparent = traceparent.and_then(|value| value.to_str().ok());
        let traceparent = traceparent.unwrap_or_default().to_owned();
        let request = request.into_inner();
        let call = Call {
            method: request.method,
            params: request.params_json,
            timeout,
            traceparent,
            ..Call::default()
        };
        let handling = methods::handling(&call.method);
        if matches!(handling, Handling::Initialize | Handling::Detach) {
            return Err(Status::invalid_argument(
                "the sidecar alone makes this call",
            ));
        }
        let result_json = self.multiplexer.call(call).await.map_err(to_status)?;
        Ok(Response::new(CallResponse { result_json }))
    }
}

/// The hello of a host. The certificate decides who it is; a hello that says otherwise is refused.
async fn host_hello(stream: &mut Streaming<SessionRequest>, host: &Identity) -> Option<HostHello> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, stream.message()).await;
    let hello = match first {
        Ok(Ok(Some(SessionRequest {
            frame: Some(session_request::Frame::Hello(hello)),
        }))) => hello,
        _ => {
            tracing::warn!("a host did not say hello");
            return None;
        }
    };
    let claimed = Identity::Host {
        namespace: hello.host_namespace.clone(),
        name: hello.host_name.clone(),
    };
    if claimed != *host {
        tracing::warn!(%claimed, %host, "a host's hello names another host than its certificate");
        return None;
    }
    Some(*hello)
}

/// Lets `wanted` in alone.
pub fn require<T>(request: &Request<T>, wanted: &Identity) -> Result<(), Status> {
    match request.extensions().get::<Peer>() {
        Some(peer) if peer.identity == *wanted => Ok(()),
        Some(peer) => {
            let found = &peer.identity;
            tracing::warn!(%found, %wanted, "a peer was refused");
            Err(Status::permission_denied(format!(
                "this is for {wanted}, and you are {found}"
            )))
        }
        None => Err(Status::unauthenticated("the connection has no identity")),
    }
}

/// The time limit a client sent, in the form of gRPC.
fn deadline<T>(request: &Request<T>) -> Result<Option<Duration>, Status> {
    let Some(value) = request.metadata().get("grpc-timeout") else {
        return Ok(None);
    };
    let invalid = || Status::invalid_argument("grpc-timeout is not digits and a unit");
    let text = value.to_str().map_err(|_| invalid())?;
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(invalid)?;
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let nanoseconds = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return Err(invalid()),
    };
    let limit = Duration::from_nanos(number.saturating_mul(nanoseconds));
    // The transport watches the same limit, and says less when it is first. An answer that comes
    // at the limit would be too late anyway.
    let early = (limit / 5).min(EARLY);
    Ok(Some((limit - early).max(Duration::from_millis(1))))
}
