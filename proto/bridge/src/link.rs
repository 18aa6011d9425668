//! One end of a session stream: heartbeat and chunking, the same for host and pod.
//!
//! Frames larger than the peer accepts are cut into chunks and joined again, within
//! [`MAX_FRAME_BYTES`]. Each end pings the other; an end that hears nothing for
//! [`DEAD_AFTER`] takes the session for lost.

use std::{
    collections::HashMap,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use crate::v1::{
    Chunk, Ping, Pong, SessionRequest, SessionResponse, session_request, session_response,
};

/// How often an end pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after which the peer counts as gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(15);
/// Largest frame that travels in one piece, unless the peer says less.
pub const DEFAULT_MAX_FRAME: usize = 1024 * 1024;
/// Largest frame in all. The worker protocol allows a line of 128 Mi UTF-16 units, each
/// of which is at most three bytes of UTF-8.
pub const MAX_FRAME_BYTES: usize = 3 * 128 * 1024 * 1024 + DEFAULT_MAX_FRAME;
/// Frames that may be under way in chunks at once.
const MAX_PARTIAL: usize = 64;
/// Least size of a chunk, whatever the peer says: smaller ones would only cost.
const MIN_CHUNK: usize = 4096;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The transport failed or the peer ended the stream with a status.
    #[error("reading from the session")]
    Transport(#[source] Box<Status>),
    /// The peer was silent for too long.
    #[error("waiting for the peer of the session: silent for {} s", DEAD_AFTER.as_secs())]
    Dead,
    /// The peer broke the rules of the contract.
    #[error("reading from the session: {0}")]
    Protocol(&'static str),
    /// A joined frame does not decode.
    #[error("decoding a frame that came in chunks")]
    Decode(#[from] prost::DecodeError),
}

/// The kinds of frames, whichever way they travel.
#[derive(Debug)]
pub enum Kind<F> {
    /// The peer wants a pong.
    Ping(u64),
    /// The peer answers a ping.
    Pong(u64),
    /// A piece of a larger frame.
    Chunk(Chunk),
    /// Anything else, the empty frame included.
    Other(F),
}

/// A message of the session stream, in either direction.
pub trait Frame: Message + Default + 'static {
    /// A ping.
    fn ping(nonce: u64) -> Self;
    /// A pong.
    fn pong(nonce: u64) -> Self;
    /// A piece of a frame.
    fn chunk(chunk: Chunk) -> Self;
    /// Takes the frames apart that the link itself handles.
    fn kind(self) -> Kind<Self>;
}

macro_rules! frame {
    ($message:ident, $module:ident) => {
        impl Frame for $message {
            fn ping(nonce: u64) -> Self {
                $module::Frame::Ping(Ping { nonce }).into()
            }

            fn pong(nonce: u64) -> Self {
                $module::Frame::Pong(Pong { nonce }).into()
            }

            fn chunk(chunk: Chunk) -> Self {
                $module::Frame::Chunk(chunk).into()
            }

            fn kind(self) -> Kind<Self> {
                match self.frame {
                    Some($module::Frame::Ping(ping)) => Kind::Ping(ping.nonce),
                    Some($module::Frame::Pong(pong)) => Kind::Pong(pong.nonce),
                    Some($module::Frame::Chunk(chunk)) => Kind::Chunk(chunk),
                    frame => Kind::Other(Self { frame }),
                }
            }
        }

        impl From<$module::Frame> for $message {
            fn from(frame: $module::Frame) -> Self {
                Self { frame: Some(frame) }
            }
        }
    };
}

frame!(SessionRequest, session_request);
frame!(SessionResponse, session_response);

/// The session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sending on a session that is over")]
pub struct Closed;

/// Why a frame was not sent within the time that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The session is over.
    #[error("sending on a session that is over")]
    Closed,
    /// The peer takes nothing.
    #[error("sending to a peer that takes nothing")]
    Slow,
}

/// The sending half of an end.
#[derive(Debug)]
pub struct Sender<F> {
    frames: mpsc::Sender<F>,
    max_frame: usize,
    next_chunk: AtomicU64,
}

impl<F: Frame> Sender<F> {
    /// Sends into `frames`; the peer said that it accepts `max_frame` bytes, 0 for the default.
    pub fn new(frames: mpsc::Sender<F>, max_frame: u32) -> Self {
        let max_frame = match usize::try_from(max_frame) {
            Ok(0) | Err(_) => DEFAULT_MAX_FRAME,
            Ok(stated) => stated.clamp(MIN_CHUNK, DEFAULT_MAX_FRAME),
        };
        Self {
            frames,
            max_frame,
            next_chunk: AtomicU64::new(0),
        }
    }

    /// Sends a frame, in chunks where it must, waiting while the queue is full.
    pub async fn send(&self, frame: F) -> Result<(), Closed> {
        for part in self.parts(frame) {
            self.frames.send(part).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// The same to a peer that has `patience` for each part of the frame, however large it is.
    pub async fn send_within(&self, frame: F, patience: Duration) -> Result<(), NotTaken> {
        for part in self.parts(frame) {
            let sent = tokio::time::timeout(patience, self.frames.send(part)).await;
            sent.map_err(|_| NotTaken::Slow)?
                .map_err(|_| NotTaken::Closed)?;
        }
        Ok(())
    }

    /// The frame, or the chunks that it is sent in.
    fn parts(&self, frame: F) -> impl Iterator<Item = F> {
        let (whole, mut rest) = match self.takes_chunks(&frame) {
            true => (None, Bytes::from(frame.encode_to_vec())),
            false => (Some(frame), Bytes::new()),
        };
        let chunk_id = self.next_chunk.fetch_add(1, Ordering::Relaxed);
        // Room for the chunk's own fields.
        let size = self.max_frame - 64;
        let chunks = std::iter::from_fn(move || {
            let data = rest.split_to(size.min(rest.len()));
            let last = rest.is_empty();
            (!data.is_empty()).then(|| {
                F::chunk(Chunk {
                    chunk_id,
                    data,
                    last,
                })
            })
        });
        whole.into_iter().chain(chunks)
    }

    /// Sends a frame at once, or gives it back when that takes waiting or chunks.
    pub fn try_send(&self, frame: F) -> Result<(), F> {
        if frame.encoded_len() > self.max_frame {
            return Err(frame);
        }
        self.frames
            .try_send(frame)
            .map_err(TrySendError::into_inner)
    }

    /// True for a frame that is too large to travel whole.
    pub fn takes_chunks(&self, frame: &F) -> bool {
        frame.encoded_len() > self.max_frame
    }

    /// Sends a small frame if there is room for it now.
    fn offer(&self, frame: F) {
        // A full queue means that traffic is under way, which tells the peer as much.
        let _ = self.frames.try_send(frame);
    }

    /// Waits until the other side of the queue is gone.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

/// When each direction last proved itself.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// The peer answered a ping of ours.
    pub answered: Option<Instant>,
    /// The peer pinged us.
    pub asked: Option<Instant>,
}

impl Proof {
    /// True when both directions proved themselves within two ping periods.
    pub fn is_fresh(&self) -> bool {
        let fresh = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() <= 2 * PING_INTERVAL);
        fresh(self.answered) && fresh(self.asked)
    }
}

/// The receiving half of an end.
#[derive(Debug)]
pub struct Receiver<I, S = Streaming<I>> {
    stream: S,
    partial: Partial,
    ticks: Interval,
    heard: Instant,
    nonce: u64,
    proof: Proof,
    /// The stream ended and must not be asked again.
    ended: bool,
    frame: PhantomData<fn() -> I>,
}

impl<I, S> Receiver<I, S>
where
    I: Frame,
    S: Stream<Item = Result<I, Status>> + Unpin,
{
    /// Reads from a stream whose hello was already taken.
    pub fn new(stream: S) -> Self {
        let mut ticks = tokio::time::interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stream,
            partial: Partial::default(),
            ticks,
            heard: Instant::now(),
            nonce: 0,
            proof: Proof {
                answered: None,
                asked: None,
            },
            ended: false,
            frame: PhantomData,
        }
    }

    /// When each direction last proved itself.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// The next event, while pings and pongs go out on `sender`. None at the orderly end.
    ///
    /// Safe to cancel: nothing that was read is lost.
    pub async fn next<O: Frame>(
        &mut self,
        sender: &Sender<O>,
    ) -> Result<Option<Event<I>>, LinkError> {
        while !self.ended {
            let message = tokio::select! {
                // Pings first: a stream that always has more would hold them up.
                biased;
                _ = self.ticks.tick() => {
                    self.ping(sender)?;
                    continue;
                }
                message = self.stream.next() => message,
            };
            let Some(message) = message else {
                self.ended = true;
                break;
            };
            if let Some(event) = self.take(message, sender)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The next event if it is already here, so that what came together is handled together.
    pub async fn ready<O: Frame>(
        &mut self,
        sender: &Sender<O>,
    ) -> Option<Result<Event<I>, LinkError>> {
        while !self.ended {
            let stream = &mut self.stream;
            let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_next(context)));
            let Poll::Ready(message) = polled.await else {
                return None;
            };
            // The end is for `next` to tell.
            self.ended = message.is_none();
            if let Some(event) = self.take(message?, sender).transpose() {
                return Some(event);
            }
        }
        None
    }

    /// Takes a message; None when it is a piece of a larger one.
    fn take<O: Frame>(
        &mut self,
        message: Result<I, Status>,
        sender: &Sender<O>,
    ) -> Result<Option<Event<I>>, LinkError> {
        let frame = message.map_err(|status| LinkError::Transport(Box::new(status)))?;
        self.heard = Instant::now();
        Ok(match frame.kind() {
            Kind::Ping(nonce) => {
                self.proof.asked = Some(self.heard);
                sender.offer(O::pong(nonce));
                Some(Event::Heartbeat)
            }
            Kind::Pong(_) => {
                self.proof.answered = Some(self.heard);
                Some(Event::Heartbeat)
            }
            Kind::Chunk(chunk) => match self.partial.join(chunk)? {
                Some(whole) => Some(Event::Frame(I::decode(whole)?)),
                None => None,
            },
            Kind::Other(frame) => Some(Event::Frame(frame)),
        })
    }

    fn ping<O: Frame>(&mut self, sender: &Sender<O>) -> Result<(), LinkError> {
        if self.heard.elapsed() > DEAD_AFTER {
            return Err(LinkError::Dead);
        }
        self.nonce += 1;
        sender.offer(O::ping(self.nonce));
        Ok(())
    }
}

/// An item of a receiver.
#[derive(Debug)]
pub enum Event<I> {
    /// A whole frame.
    Frame(I),
    /// A ping or a pong was taken; the proof may have changed.
    Heartbeat,
}

/// Frames that came in part.
#[derive(Debug, Default)]
struct Partial {
    frames: HashMap<u64, BytesMut>,
    held: usize,
}

impl Partial {
    /// Takes a piece and gives the frame when it was the last.
    fn join(&mut self, chunk: Chunk) -> Result<Option<Bytes>, LinkError> {
        self.held += chunk.data.len();
        if self.held > MAX_FRAME_BYTES {
            return Err(LinkError::Protocol("chunks of more than the largest frame"));
        }
        let frame = self.frames.entry(chunk.chunk_id).or_default();
        frame.extend_from_slice(&chunk.data);
        if chunk.last {
            let frame = self.frames.remove(&chunk.chunk_id).unwrap_or_default();
            self.held -= frame.len();
            return Ok(Some(frame.freeze()));
        }
        if self.frames.len() > MAX_PARTIAL {
            return Err(LinkError::Protocol("too many frames in chunks at once"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Request;

    fn request(bytes: usize) -> SessionRequest {
        let request = Request {
            id: 7,
            params_json: vec![b'x'; bytes].into(),
            ..Request::default()
        };
        session_request::Frame::Request(request).into()
    }

    async fn through_chunks(frame: SessionRequest, max_frame: u32) -> (SessionRequest, usize) {
        let (frames, mut queue) = mpsc::channel(1024);
        let sender = Sender::new(frames, max_frame);
        sender.send(frame).await.unwrap();
        drop(sender);
        let mut partial = Partial::default();
        let mut pieces = 0;
        let mut whole = None;
        while let Some(frame) = queue.recv().await {
            pieces += 1;
            assert!(frame.encoded_len() <= max_frame as usize);
            match frame.kind() {
                Kind::Chunk(chunk) => whole = partial.join(chunk).unwrap(),
                Kind::Other(frame) => return (frame, pieces),
                other => panic!("{other:?}"),
            }
        }
        (
            SessionRequest::decode(whole.expect("the last piece")).unwrap(),
            pieces,
        )
    }

    #[tokio::test]
    async fn a_frame_within_the_limit_travels_whole() {
        assert_eq!(through_chunks(request(100), 4096).await, (request(100), 1));
    }

    #[tokio::test]
    async fn a_larger_frame_travels_in_chunks_and_is_the_same_again() {
        let (frame, pieces) = through_chunks(request(100_000), 4096).await;
        assert_eq!(frame, request(100_000));
        assert!(pieces > 20);
    }

    #[test]
    fn chunks_past_the_largest_frame_end_the_session() {
        let mut partial = Partial {
            held: MAX_FRAME_BYTES,
            ..Partial::default()
        };
        let chunk = Chunk {
            data: Bytes::from_static(b"x"),
            ..Chunk::default()
        };
        assert!(partial.join(chunk).is_err());
    }
}
