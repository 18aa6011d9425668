//! The messages between shim and sidecar, one packet each.
//!
//! A packet is one byte for the kind and then its fields, each a big-endian `u32` length
//! and so many bytes. A list is a field that holds fields. Numbers are fields in decimal.
//! Descriptors travel beside the packet: with [`Report::Hello`] the proof, with [`Report::Worker`]
//! first the worker's stdin, then its stdout.

/// Largest packet. It must fit the kernel's default socket buffer with room to spare.
pub const MAX_PACKET: usize = 160 * 1024;

/// A command of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a worker. Ignored while one runs.
    Start(Start),
    /// Send a signal to the worker's process group.
    Signal(i32),
    /// Keep this with the worker and give it back in [`Report::Worker`].
    Remember(Vec<u8>),
    /// Keep these keys, each of [`crate::delivered::KEY`] bytes, behind those that are kept.
    Delivered(Vec<u8>),
    /// The work is done: exit, ending a worker that still runs.
    Quit,
}

/// How to start a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Folder whose `.paperclip/marker` must hold `marker`.
    pub artifact: String,
    /// The marker of the wanted artifact.
    pub marker: String,
    /// Folder to start in.
    pub directory: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// The whole environment, as names and values in turn.
    pub environment: Vec<(String, String)>,
}

/// A report of the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// First on each connection, with a descriptor of the socket's folder that holds its lock:
    /// the proof that this is the shim. The keys of what was delivered to the worker.
    Hello(Vec<u8>),
    /// Second on a connection: no worker runs.
    Idle,
    /// A worker runs. Second on a connection when it was running before; otherwise after a start.
    Worker {
        /// Its process id, as the shim sees it.
        pid: i32,
        /// State to be remembered; empty for a fresh worker.
        remembered: Vec<u8>,
    },
    /// The worker was not started, and why.
    Refused(String),
    /// The worker ended.
    Exited(Exit),
    /// A line the worker wrote to stderr.
    Stderr(String),
    /// The container is asked to stop.
    Terminating,
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last it wrote to stderr, at most 8,000 characters.
    pub stderr: String,
}

/// A packet that is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Command {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Start(start) => {
                let mut packet = Packet::of(b'S');
                packet.text(&start.artifact);
                packet.text(&start.marker);
                packet.text(&start.directory);
                packet.list(start.arguments.iter());
                packet.list(
                    start
                        .environment
                        .iter()
                        .flat_map(|(name, value)| [name, value]),
                );
                packet.0
            }
            Self::Signal(number) => Packet::of(b'K').with_number(*number),
            Self::Remember(bytes) => {
                let mut packet = Packet::of(b'R');
                packet.field(bytes);
                packet.0
            }
            Self::Delivered(keys) => {
                let mut packet = Packet::of(b'T');
                packet.field(keys);
                packet.0
            }
            Self::Quit => Packet::of(b'Q').0,
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let (kind, rest) = packet.split_first().ok_or(Malformed)?;
        let mut fields = Fields(rest);
        match kind {
            b'S' => Ok(Self::Start(Start {
                artifact: fields.text()?,
                marker: fields.text()?,
                directory: fields.text()?,
                arguments: fields.list()?,
                environment: pairs(fields.list()?)?,
            })),
            b'K' => Ok(Self::Signal(fields.number()?)),
            b'R' => Ok(Self::Remember(fields.field()?.to_vec())),
            b'T' => Ok(Self::Delivered(fields.field()?.to_vec())),
            b'Q' => Ok(Self::Quit),
            _ => Err(Malformed),
        }
    }
}

impl Report {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(keys) => {
                let mut packet = Packet::of(b'h');
                packet.field(keys);
                packet.0
            }
            Self::Idle => Packet::of(b'i').0,
            Self::Worker { pid, remembered } => {
                let mut packet = Packet::of(b'w');
                packet.text(&pid.to_string());
                packet.field(remembered);
                packet.0
            }
            Self::Refused(why) => Packet::of(b'f').with_text(why),
            Self::Exited(exit) => {
                let number = |number: Option<i32>| number.map_or(String::new(), |n| n.to_string());
                let mut packet = Packet::of(b'x');
                packet.text(&number(exit.code));
                packet.text(&number(exit.signal));
                packet.text(&exit.stderr);
                packet.0
            }
            Self::Stderr(line) => Packet::of(b'e').with_text(line),
            Self::Terminating => Packet::of(b't').0,
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let (kind, rest) = packet.split_first().ok_or(Malformed)?;
        let mut fields = Fields(rest);
        match kind {
            b'h' => Ok(Self::Hello(fields.field()?.to_vec())),
            b'i' => Ok(Self::Idle),
            b'w' => Ok(Self::Worker {
                pid: fields.number()?,
                remembered: fields.field()?.to_vec(),
            }),
            b'f' => Ok(Self::Refused(fields.text()?)),
            b'x' => Ok(Self::Exited(Exit {
                code: fields.optional_number()?,
                signal: fields.optional_number()?,
                stderr: fields.text()?,
            })),
            b'e' => Ok(Self::Stderr(fields.text()?)),
            b't' => Ok(Self::Terminating),
            _ => Err(Malformed),
        }
    }
}

fn pairs(flat: Vec<String>) -> Result<Vec<(String, String)>, Malformed> {
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let Some(name) = flat.next() {
        pairs.push((name, flat.next().ok_or(Malformed)?));
    }
    Ok(pairs)
}

struct Packet(Vec<u8>);

impl Packet {
    fn of(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn field(&mut self, bytes: &[u8]) {
        // Packets beyond MAX_PACKET are refused when they are sent, so the length fits.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.field(text.as_bytes());
    }

    fn list<'a>(&mut self, items: impl Iterator<Item = &'a String>) {
        let mut inner = Self(Vec::new());
        items.for_each(|item| inner.text(item));
        self.field(&inner.0);
    }

    fn with_text(mut self, text: &str) -> Vec<u8> {
        self.text(text);
        self.0
    }

    fn with_number(self, number: i32) -> Vec<u8> {
        self.with_text(&number.to_string())
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (field, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.field()?.to_vec()).map_err(|_| Malformed)
    }

    fn number(&mut self) -> Result<i32, Malformed> {
        self.text()?.parse().map_err(|_| Malformed)
    }

    fn optional_number(&mut self) -> Result<Option<i32>, Malformed> {
        match self.text()?.as_str() {
            "" => Ok(None),
            number => number.parse().map(Some).map_err(|_| Malformed),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, Malformed> {
        let mut inner = Fields(self.field()?);
        let mut items = Vec::new();
        while !inner.0.is_empty() {
            items.push(inner.text()?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_wire() {
        let start = Start {
            artifact: "/a".into(),
            marker: "m".into(),
            directory: "/a/b".into(),
            arguments: vec!["node".into(), String::new(), "x y".into()],
            environment: vec![
                ("PATH".into(), "/bin".into()),
                ("EMPTY".into(), String::new()),
            ],
        };
        let all = [
            Command::Start(start),
            Command::Start(Start::default()),
            Command::Signal(15),
            Command::Remember(vec![0, 255, 10]),
            Command::Delivered(vec![7; 32]),
            Command::Quit,
        ];
        for command in all {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        let exit = Exit {
            code: None,
            signal: Some(9),
            stderr: "ö\n".into(),
        };
        let all = [
            Report::Hello(vec![7; 32]),
            Report::Idle,
            Report::Worker {
                pid: 7,
                remembered: vec![1, 2],
            },
            Report::Refused("why".into()),
            Report::Exited(exit),
            Report::Stderr(String::new()),
            Report::Terminating,
        ];
        for report in all {
            assert_eq!(Report::decode(&report.encode()), Ok(report));
        }
    }

    #[test]
    fn a_cut_packet_is_malformed() {
        let whole = Report::Refused("why".into()).encode();
        for length in 0..whole.len() {
            assert_eq!(Report::decode(&whole[..length]), Err(Malformed), "{length}");
        }
    }
}
