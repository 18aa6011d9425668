//! Streams: what a worker tells, as it happens, to everybody who listens to a channel.
//!
//! Nobody waits for a reader. What a reader has not taken yet is bounded, and a reader that
//! lets it grow beyond that is dropped; it may come again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

/// Messages that wait for one reader.
const QUEUE: usize = 256;
/// Bytes that wait for one reader, apart from the last message.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Readers of one plugin.
const READERS: usize = 256;
/// Channels of one plugin that are open without a reader, or have readers.
const CHANNELS: usize = 1024;

/// A channel: of one company, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// The company.
    pub company: String,
    /// The worker's name of it.
    pub name: String,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The worker opened the channel.
    Open,
    /// An event, as JSON on one line.
    Data(Arc<str>),
    /// The worker closed the channel, or went away.
    Close,
}

impl Message {
    fn size(&self) -> usize {
        match self {
            Self::Data(json) => json.len(),
            Self::Open | Self::Close => 0,
        }
    }
}

/// More readers than a plugin may have.
#[derive(Debug, thiserror::Error)]
#[error("{READERS} readers listen to the plugin's streams already")]
pub struct TooManyReaders;

/// The channels of one plugin.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<ChannelId, Channel>>);

#[derive(Debug, Default)]
struct Channel {
    /// The pod whose worker opened it.
    open_in: Option<String>,
    readers: Vec<Sender>,
}

#[derive(Debug)]
struct Sender {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
}

/// Whether a reader got a message.
#[derive(PartialEq, Eq)]
enum Offer {
    Taken,
    TooSlow,
    Gone,
}

impl Sender {
    fn offer(&self, message: &Message) -> Offer {
        if self.bytes.load(Ordering::Relaxed) > QUEUE_BYTES {
            return Offer::TooSlow;
        }
        self.bytes.fetch_add(message.size(), Ordering::Relaxed);
        match self.messages.try_send(message.clone()) {
            Ok(()) => Offer::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => Offer::TooSlow,
            Err(mpsc::error::TrySendError::Closed(_)) => Offer::Gone,
        }
    }
}

/// Somebody who listens to a channel, until this is dropped.
#[derive(Debug)]
pub struct Reader {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Reader {
    /// The next message; none once the reader was too slow.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.bytes.fetch_sub(message.size(), Ordering::Relaxed);
        Some(message)
    }
}

impl Streams {
    /// Listens to a channel. If it is open, the first message says so.
    pub fn listen(&self, id: ChannelId) -> Result<Reader, TooManyReaders> {
        let mut channels = self.lock();
        prune(&mut channels);
        let readers: usize = channels.values().map(|channel| channel.readers.len()).sum();
        if readers >= READERS {
            return Err(TooManyReaders);
        }
        let (sender, messages) = mpsc::channel(QUEUE);
        let bytes = Arc::new(AtomicUsize::new(0));
        let reader = Sender {
            messages: sender,
            bytes: Arc::clone(&bytes),
        };
        let channel = channels.entry(id).or_default();
        if channel.open_in.is_some() {
            reader.offer(&Message::Open);
        }
        channel.readers.push(reader);
        Ok(Reader { messages, bytes })
    }

    /// The worker of a pod opens a channel. Gives the number of readers that were dropped.
    pub fn open(&self, pod: &str, id: ChannelId) -> usize {
        let mut channels = self.lock();
        if channels.len() >= CHANNELS {
            prune(&mut channels);
        }
        if channels.len() >= CHANNELS && !channels.contains_key(&id) {
            return 0;
        }
        let channel = channels.entry(id).or_default();
        channel.open_in = Some(pod.to_owned());
        channel.tell(&Message::Open)
    }

    /// The worker says something. Gives the number of readers that were dropped.
    pub fn emit(&self, id: &ChannelId, json: &str) -> usize {
        let mut channels = self.lock();
        match channels.get_mut(id) {
            Some(channel) if !channel.readers.is_empty() => {
                channel.tell(&Message::Data(one_line(json)))
            }
            _ => 0,
        }
    }

    /// The worker closes a channel. Gives the number of readers that were dropped.
    pub fn close(&self, id: &ChannelId) -> usize {
        let mut channels = self.lock();
        let dropped = channels.get_mut(id).map_or(0, Channel::close);
        prune(&mut channels);
        dropped
    }

    /// The worker of a pod went away: what it had open is closed.
    pub fn close_all_of(&self, pod: &str) {
        let mut channels = self.lock();
        for channel in channels.values_mut() {
            if channel.open_in.as_deref() == Some(pod) {
                channel.close();
            }
        }
        prune(&mut channels);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn close(&mut self) -> usize {
        self.open_in = None;
        self.tell(&Message::Close)
    }

    /// Tells every reader, and drops those that are gone or too slow. Gives the number of the latter.
    fn tell(&mut self, message: &Message) -> usize {
        let mut slow = 0;
        self.readers.retain(|reader| {
            let offer = reader.offer(message);
            slow += usize::from(offer == Offer::TooSlow);
            offer == Offer::Taken
        });
        slow
    }
}

/// Forgets readers that are gone, and channels that are neither open nor listened to.
fn prune(channels: &mut HashMap<ChannelId, Channel>) {
    channels.retain(|_, channel| {
        channel
            .readers
            .retain(|reader| !reader.messages.is_closed());
        channel.open_in.is_some() || !channel.readers.is_empty()
    });
}

/// JSON without line breaks, which outside of strings are white space and inside cannot be.
fn one_line(json: &str) -> Arc<str> {
    let breaks = ['\n', '\r'];
    match json.contains(breaks) {
        true => json.replace(breaks, " ").into(),
        false => json.into(),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn id() -> ChannelId {
        ChannelId {
            company: "c".into(),
            name: "tokens".into(),
        }
    }

    fn next(reader: &mut Reader) -> Option<Message> {
        reader.next().now_or_never().flatten()
    }

    fn data(json: &str) -> Option<Message> {
        Some(Message::Data(json.into()))
    }

    #[test]
    fn a_reader_hears_what_is_said_while_it_listens() {
        let streams = Streams::default();
        streams.emit(&id(), "0");
        let mut early = streams.listen(id()).unwrap();
        streams.open("pod", id());
        streams.emit(&id(), "{\r\n}");
        let mut late = streams.listen(id()).unwrap();
        streams.close(&id());
        assert_eq!(next(&mut early), Some(Message::Open));
        assert_eq!(next(&mut early), data("{  }"));
        assert_eq!(next(&mut early), Some(Message::Close));
        assert_eq!(next(&mut late), Some(Message::Open));
        assert_eq!(next(&mut late), Some(Message::Close));
        assert_eq!(next(&mut late), None);
    }

    #[test]
    fn a_slow_reader_is_dropped_and_the_others_hear_everything() {
        let (many, large) = (
            ("1".to_owned(), QUEUE + 8),
            ("2".repeat(QUEUE_BYTES / 8), 16),
        );
        for (json, times) in [many, large] {
            let streams = Streams::default();
            let mut slow = streams.listen(id()).unwrap();
            let mut quick = streams.listen(id()).unwrap();
            let mut dropped = 0;
            for _ in 0..times {
                dropped += streams.emit(&id(), &json);
                assert_eq!(next(&mut quick), data(&json));
            }
            assert_eq!(dropped, 1);
            let mut taken = 0;
            while let Some(Some(_)) = slow.next().now_or_never() {
                taken += 1;
            }
            assert!(taken <= QUEUE && taken * json.len() <= QUEUE_BYTES + json.len());
            assert_eq!(
                slow.next().now_or_never(),
                Some(None),
                "it is told that it ends"
            );
        }
    }

    #[test]
    fn a_pod_that_goes_away_closes_what_it_had_open() {
        let streams = Streams::default();
        streams.open("one", id());
        let mut reader = streams.listen(id()).unwrap();
        assert_eq!(next(&mut reader), Some(Message::Open));
        streams.close_all_of("another");
        assert_eq!(next(&mut reader), None);
        streams.close_all_of("one");
        assert_eq!(next(&mut reader), Some(Message::Close));
        drop(reader);
        streams.close_all_of("one");
        assert!(streams.lock().is_empty(), "nothing is remembered");
    }

    #[test]
    fn readers_and_channels_are_bounded() {
        let streams = Streams::default();
        let readers: Vec<_> = (0..READERS)
            .map(|_| streams.listen(id()).unwrap())
            .collect();
        assert!(streams.listen(id()).is_err());
        drop(readers);
        assert!(streams.listen(id()).is_ok());
        for n in 0..CHANNELS + 8 {
            let name = n.to_string();
            streams.open("pod", ChannelId { name, ..id() });
        }
        assert_eq!(streams.lock().len(), CHANNELS);
    }
}
