//! The two ways in which a step of a reconcile ends without a result.

use super::error::ReconcileError;

/// A step without a result.
#[derive(Debug)]
pub enum Unfinished<B> {
    /// Something in the spec or the cluster is in the way; status says so.
    Blocked(B),
    /// The reconcile itself failed, and is tried again.
    Failed(ReconcileError),
}

impl<B> Unfinished<B> {
    /// The same with another account of the obstacle.
    pub fn map<C>(self, account: impl FnOnce(B) -> C) -> Unfinished<C> {
        match self {
            Self::Blocked(obstacle) => Unfinished::Blocked(account(obstacle)),
            Self::Failed(error) => Unfinished::Failed(error),
        }
    }
}

impl<B> From<ReconcileError> for Unfinished<B> {
    fn from(error: ReconcileError) -> Self {
        Self::Failed(error)
    }
}
