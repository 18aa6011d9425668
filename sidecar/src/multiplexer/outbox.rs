//! Frames for a host that are no answers, in order, without the worker waiting for it.
//!
//! A host that reads slowly has its news kept, up to a bound. Beyond that it is left behind where
//! another host keeps up; where none does, the worker is what is too fast, and waits.

use std::sync::Arc;

use paperclip_bridge::{link, v1::SessionResponse};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Room for what waits, in KiB.
const ROOM: u32 = 16 * 1024;

/// Frames that wait for one host.
#[derive(Debug)]
pub(super) struct Outbox {
    room: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Posted>,
}

/// A frame, and the room that it takes.
pub(super) type Posted = (SessionResponse, OwnedSemaphorePermit);

impl Outbox {
    /// An empty one, and the end that is to be emptied.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Posted>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM as usize));
        (Self { room, queue }, receiver)
    }

    /// True while the host is less than half of the bound behind.
    pub(super) fn keeps_up(&self) -> bool {
        self.room.available_permits() > ROOM as usize / 2
    }

    /// Sends a frame if nothing waits before it, else keeps it. Gives it back when there is no room.
    pub(super) fn post(
        &self,
        link: &link::Sender<SessionResponse>,
        frame: SessionResponse,
    ) -> Option<SessionResponse> {
        let is_empty = self.room.available_permits() == ROOM as usize;
        let frame = match is_empty {
            true => match link.try_send(frame) {
                Ok(()) => return None,
                Err(frame) => frame,
            },
            false => frame,
        };
        match self.room.clone().try_acquire_many_owned(size(&frame)) {
            Ok(room) => {
                let _ = self.queue.send((frame, room));
                None
            }
            Err(_) => Some(frame),
        }
    }

    /// Keeps a frame once there is room.
    pub(super) async fn post_in_turn(&self, frame: SessionResponse) {
        let room = self.room.clone().acquire_many_owned(size(&frame)).await;
        if let Ok(room) = room {
            let _ = self.queue.send((frame, room));
        }
    }
}

/// KiB of a frame, within the whole room.
fn size(frame: &SessionResponse) -> u32 {
    let kibibytes = frame.encoded_len() / 1024 + 1;
    u32::try_from(kibibytes).unwrap_or(ROOM).min(ROOM)
}
