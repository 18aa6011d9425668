//! Egress of this pod, tried: does the cluster's network keep it closed?
//!
//! A NetworkPolicy is a wish: some networks grant it, some ignore it, and the API server
//! says yes to both. So the sidecar, which shares the worker's network, now and then dials
//! what no policy of a plugin pod allows: the API server.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use paperclip_bridge::v1::Egress;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::state::StateBoard;

/// A network that drops packets says nothing, so this is how long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(3);
/// Policies come and go while pods run.
const AGAIN: Duration = Duration::from_secs(60);

/// Tries every minute and shows what came of it, until told to stop.
pub async fn watch(state: &StateBoard, target: SocketAddr, stop: CancellationToken) {
    let trying = async {
        loop {
            let found = attempt(target).await;
            state.update(|state| state.egress = found);
            tokio::time::sleep(AGAIN).await;
        }
    };
    stop.run_until_cancelled(trying).await;
}

async fn attempt(target: SocketAddr) -> Egress {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(target)).await {
        Err(_silence) => Egress::Denied,
        Ok(connected) => judge(connected.err().map(|error| error.kind())),
    }
}

/// The verdict of an attempt on the network. A refusal by the other side is no denial: the
/// packet arrived.
fn judge(failure: Option<ErrorKind>) -> Egress {
    match failure {
        None | Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => Egress::Open,
        Some(
            ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied,
        ) => Egress::Denied,
        Some(_) => Egress::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_address_that_answers_or_refuses_is_open_egress() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(attempt(address).await, Egress::Open);
        drop(listener);
        assert_eq!(attempt(address).await, Egress::Open);
    }

    #[test]
    fn silence_and_unreachable_are_denied_and_anything_else_says_nothing() {
        assert_eq!(judge(Some(ErrorKind::HostUnreachable)), Egress::Denied);
        assert_eq!(judge(Some(ErrorKind::PermissionDenied)), Egress::Denied);
        assert_eq!(judge(Some(ErrorKind::OutOfMemory)), Egress::Unspecified);
    }
}
