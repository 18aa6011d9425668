//! The lane to one host: every frame for it, in the order in which it was posted.
//!
//! To post never waits, so that who takes the worker's lines fixes their order and goes on. A host
//! that reads slowly has its frames kept; how much that is, whoever posts may ask, and wait for.

use std::sync::atomic::{AtomicUsize, Ordering};

use paperclip_bridge::{link, v1::SessionResponse};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};

/// Bytes after which a host counts as behind with what it did not ask for.
const BEHIND: usize = 16 * 1024 * 1024;
/// The same with answers and requests, whose number is bounded elsewhere.
const FAR_BEHIND: usize = 64 * 1024 * 1024;

/// Frames that wait for one host.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::UnboundedSender<Posted>,
    /// Frames that wait, the one under way among them.
    frames: AtomicUsize,
    /// Bytes that wait, without the frame under way.
    bytes: AtomicUsize,
    eased: Notify,
}

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Posted {
    frame: SessionResponse,
    bytes: usize,
    /// The id of the request that it is.
    pub(super) request: Option<u64>,
}

impl Lane {
    /// An empty one, and the end that is to be drained.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Posted>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let lane = Self {
            queue,
            frames: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            eased: Notify::new(),
        };
        (lane, receiver)
    }

    /// True while the host is less than half of the bound behind.
    pub(super) fn keeps_up(&self) -> bool {
        self.waiting() < BEHIND / 2
    }

    /// True when more waits than a host should leave unread.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting() > BEHIND
    }

    /// True when even answers and requests have to wait.
    pub(super) fn is_far_behind(&self) -> bool {
        self.waiting() > FAR_BEHIND
    }

    fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Sends a frame if nothing is before it, else keeps it for its turn. True when it was sent.
    pub(super) fn post(
        &self,
        link: &link::Sender<SessionResponse>,
        frame: SessionResponse,
        request: Option<u64>,
    ) -> bool {
        let frame = match self.frames.load(Ordering::Acquire) {
            0 => match link.try_send(frame) {
                Ok(()) => return true,
                Err(frame) => frame,
            },
            _ => frame,
        };
        let bytes = frame.encoded_len();
        self.frames.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        // Without a receiver the session is over, and so is all that waits.
        let _ = self.queue.send(Posted {
            frame,
            bytes,
            request,
        });
        false
    }

    /// The frame is under way from here on.
    pub(super) fn take(&self, posted: Posted) -> SessionResponse {
        self.bytes.fetch_sub(posted.bytes, Ordering::AcqRel);
        self.eased.notify_waiters();
        posted.frame
    }

    /// The frame that was under way is with the transport.
    pub(super) fn done(&self) {
        self.frames.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits until the host is no more behind.
    pub(super) async fn caught_up(&self) {
        loop {
            let eased = self.eased.notified();
            tokio::pin!(eased);
            eased.as_mut().enable();
            if !self.is_behind() {
                return;
            }
            eased.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_bridge::v1::{Response, response, session_response};
    use std::sync::Arc;

    fn frame(id: u64, bytes: usize) -> SessionResponse {
        let result = vec![b'1'; bytes].into();
        let outcome = Some(response::Outcome::ResultJson(result));
        session_response::Frame::Response(Response { id, outcome }).into()
    }

    fn id(frame: &SessionResponse) -> u64 {
        match &frame.frame {
            Some(session_response::Frame::Response(response)) => response.id,
            _ => 0,
        }
    }

    #[tokio::test]
    async fn nothing_overtakes_what_waits() {
        let (frames, mut sent) = mpsc::channel(1);
        let link = link::Sender::new(frames, 0);
        let (lane, mut queue) = Lane::new();
        assert!(lane.post(&link, frame(1, 1), None));
        assert!(!lane.post(&link, frame(2, 1), None));
        assert_eq!(id(&sent.recv().await.unwrap()), 1);
        // There is room now, and one before it.
        assert!(!lane.post(&link, frame(3, 1), None));
        for wanted in [2, 3] {
            let next = lane.take(queue.recv().await.unwrap());
            assert_eq!(id(&next), wanted);
            lane.done();
        }
        assert!(lane.post(&link, frame(4, 1), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_frame_that_is_under_way_is_no_sign_of_a_slow_host() {
        let (frames, _sent) = mpsc::channel(1);
        let link = link::Sender::new(frames, 0);
        let (lane, mut queue) = Lane::new();
        let lane = Arc::new(lane);
        lane.post(&link, frame(1, 2 * BEHIND), None);
        assert!(lane.is_behind() && !lane.keeps_up() && !lane.is_far_behind());
        let waiting = tokio::spawn({
            let lane = lane.clone();
            async move { lane.caught_up().await }
        });
        tokio::task::yield_now().await;
        let _ = lane.take(queue.recv().await.unwrap());
        assert!(lane.keeps_up());
        waiting.await.unwrap();
        assert!(!lane.post(&link, frame(2, 1), None), "one is under way");
    }
}
