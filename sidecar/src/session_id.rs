//! Names of sessions.

/// Names a session in this sidecar. None is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session of that number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }
}
