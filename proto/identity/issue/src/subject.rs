//! Whom a leaf is for, and what it states of them.

use std::fmt;

use paperclip_identity::Identity;
use time::{Duration, OffsetDateTime};

/// Life of a leaf of the bridge.
const LEAF_LIFE: Duration = Duration::days(90);
/// The artifact store reads its certificate when it starts, and starts when its node is emptied
/// or the chart is upgraded: it must not run out in between.
const SERVER_LIFE: Duration = Duration::days(5 * 365);
/// Clocks of nodes differ.
pub(crate) const BACKDATE: Duration = Duration::minutes(5);

/// Whom a leaf is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A peer of the bridge, by its URI name.
    Identity(Identity),
    /// A server reached by DNS names.
    Dns(Vec<String>),
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A URI.
    Uri(String),
    /// A DNS name.
    Dns(String),
}

/// The statement of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its names.
    pub names: Vec<Name>,
    /// True for a leaf that dials.
    pub is_client: bool,
    /// True for a leaf that is dialled.
    pub is_server: bool,
    /// When it begins to hold.
    pub begin: OffsetDateTime,
    /// When it ends.
    pub end: OffsetDateTime,
}

impl Subject {
    /// The statement of a leaf for it, issued at `now`: hosts and the operator dial, plugins and
    /// servers are dialled.
    #[must_use]
    pub fn statement(&self, now: OffsetDateTime) -> Statement {
        let is_client = matches!(
            self,
            Self::Identity(Identity::Host { .. } | Identity::Operator)
        );
        Statement {
            names: self.names(),
            is_client,
            is_server: !is_client,
            begin: now - BACKDATE,
            end: now + self.life(),
        }
    }

    fn names(&self) -> Vec<Name> {
        match self {
            Self::Identity(identity) => vec![Name::Uri(identity.to_string())],
            Self::Dns(names) => names.iter().cloned().map(Name::Dns).collect(),
        }
    }

    fn life(&self) -> Duration {
        match self {
            Self::Identity(_) => LEAF_LIFE,
            Self::Dns(_) => SERVER_LIFE,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) | Self::Dns(name) => formatter.write_str(name),
        }
    }
}
