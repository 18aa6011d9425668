//! The way of a host's call to the worker, where it cannot be written at once: it waits for a worker
//! that serves, then at the gate, then for room. Calls of a session keep their order on all of it.

use std::sync::Arc;

use paperclip_bridge::v1::RpcError;
use paperclip_protocol::jsonrpc;
use tokio::time::Instant;

use super::{Multiplexer, session::Session, turnstile::Turn};
use crate::limits::{Entering, Place, Refusal};

/// A call on its way.
#[derive(Debug)]
pub(super) enum Approach {
    /// Of no session: it waits for nobody but the gate.
    Single,
    /// Before a worker that does not serve yet, or behind others that wait for it.
    Starting(Arc<Session>, Turn),
    /// At the gate, with its turn at the worker's stdin.
    AtGate(Entering, Turn),
    /// The gate does not let it in.
    Refused(Refusal),
}

/// What a call has that may be written: a place inside, and its turn until it is written.
pub(super) type Admitted = (Place, Option<Turn>);

impl Multiplexer {
    /// Sets a call of a session on its way, without waiting: its place in the order is fixed.
    pub(super) fn approach(&self, session: &Arc<Session>) -> Approach {
        match self.is_open() && session.starts.is_empty() {
            true => self.to_gate(session),
            false => Approach::Starting(session.clone(), session.starts.join()),
        }
    }

    fn to_gate(&self, session: &Arc<Session>) -> Approach {
        match self.gate.queue(Some(session.id)) {
            Ok(entering) => Approach::AtGate(entering, session.writes.join()),
            Err(refusal) => Approach::Refused(refusal),
        }
    }

    /// Waits for all that a call of a host needs before it may be written.
    pub(super) async fn admit(
        &self,
        approach: Approach,
        deadline: Instant,
    ) -> Result<Admitted, RpcError> {
        let approach = match approach {
            Approach::Starting(session, mut turn) => {
                self.wait_for_worker(deadline).await?;
                let come = tokio::time::timeout_at(deadline, turn.come()).await;
                come.map_err(|_| late("calls before it wait for the worker"))?;
                self.to_gate(&session)
            }
            approach => approach,
        };
        let (entered, turn) = match approach {
            Approach::Refused(refusal) => return Err(self.refused(refusal)),
            Approach::AtGate(entering, turn) => (entering.come(deadline).await, Some(turn)),
            Approach::Single | Approach::Starting(..) => {
                self.wait_for_worker(deadline).await?;
                (self.gate.enter(None, deadline).await, None)
            }
        };
        let place = entered.map_err(|refusal| self.refused(refusal))?;
        let mut turn = turn;
        let ready = async {
            if let Some(turn) = &mut turn {
                turn.come().await;
            }
            self.wait_for_room().await;
        };
        let ready = tokio::time::timeout_at(deadline, ready).await;
        ready.map_err(|_| late("the worker does not read its stdin"))?;
        self.refuse_when_draining()?;
        Ok((place, turn))
    }
}

/// A call that was not written within its time.
fn late(why: &str) -> RpcError {
    RpcError {
        code: jsonrpc::TIMEOUT,
        ..RpcError::not_sent(format!("the call was not written in its time: {why}"))
    }
}
