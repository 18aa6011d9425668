//! Leader election over a Lease: of several operators one acts.
//!
//! The holder renews every two seconds and counts itself out ten seconds after its last
//! renewal; others take over fifteen seconds after the last change they saw, by their own
//! clocks. Each write carries the resource version it builds on, so of two candidates one
//! fails. On shutdown the Lease is released and the next one takes it at once.
//!
//! A leader that loses the Lease ends its process, and the kubelet starts a standby in its
//! place. Going back to standby inside the process was rejected: every watch, stream and
//! pass would have to be known to have stopped before the next leader's first write, and
//! the end of a process is the one stop that needs no proof.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Name of the Lease.
pub const LEASE: &str = "paperclip-operator";

/// Times of the election, in client-go's words. The renew deadline is shorter than the lease
/// duration, so that a holder has stopped when the next one begins.
#[derive(Clone, Copy, Debug)]
struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

/// One candidate.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    timing: Timing,
    /// The last state of another's Lease, and when we saw it first.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// A candidate under this name; two candidates must not share one.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            timing: TIMING,
            seen: None,
        }
    }

    /// Waits until this candidate leads. False when told to stop before that.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "asking for the leader's Lease failed"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(self.timing.retry_period) => {}
            }
        }
    }

    /// Renews until told to stop, or until the Lease is lost; says whether it was lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(self.timing.retry_period) => {}
            }
            let left = self.timing.renew_deadline.saturating_sub(renewed.elapsed());
            let started = Instant::now();
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = started,
                Ok(Ok(false)) => return true,
                Ok(Err(error)) => tracing::warn!(%error, "renewing the leader's Lease failed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.timing.renew_deadline {
                return true;
            }
        }
    }

    /// Gives the Lease up, if it is still ours.
    ///
    /// # Errors
    /// When the API server refuses; the Lease then runs out by itself.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(LEASE).await? else {
            return Ok(());
        };
        if holder(&lease) != Some(self.identity.as_str()) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.api
            .replace(LEASE, &PostParams::default(), &lease)
            .await?;
        Ok(())
    }

    /// One try to take or renew; whether we lead after it.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(LEASE).await? else {
            let lease = self.next(None);
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        if !self.may_take(&lease) {
            return Ok(false);
        }
        let lease = self.next(Some(lease));
        won(self
            .api
            .replace(LEASE, &PostParams::default(), &lease)
            .await)
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        match holder(lease) {
            None => return true,
            Some(holder) if holder == self.identity => return true,
            Some(_) => {}
        }
        let spec = lease.spec.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == spec => since.elapsed() >= self.timing.lease_duration,
            _ => {
                self.seen = Some((spec, Instant::now()));
                false
            }
        }
    }

    fn next(&self, previous: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let (metadata, old) = match previous {
            Some(lease) => (lease.metadata, lease.spec.unwrap_or_default()),
            None => (
                ObjectMeta {
                    name: Some(LEASE.into()),
                    ..ObjectMeta::default()
                },
                LeaseSpec::default(),
            ),
        };
        let kept = old.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = old.lease_transitions.unwrap_or_default();
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                acquire_time: if kept {
                    old.acquire_time
                } else {
                    Some(now.clone())
                },
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.timing.lease_duration.as_secs()).ok(),
                lease_transitions: Some(if kept { transitions } else { transitions + 1 }),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_testkit::ApiServer;

    const QUICK: Timing = Timing {
        lease_duration: Duration::from_millis(900),
        renew_deadline: Duration::from_millis(300),
        retry_period: Duration::from_millis(50),
    };

    fn candidate(server: &ApiServer, name: &str) -> Candidate {
        Candidate {
            timing: QUICK,
            ..Candidate::new(server.client(), "paperclip-system", name)
        }
    }

    async fn leader(server: &ApiServer) -> Candidate {
        let mut candidate = candidate(server, "one");
        assert!(candidate.acquire(&CancellationToken::new()).await);
        candidate
    }

    #[tokio::test]
    async fn a_leader_that_cannot_renew_counts_itself_out_before_another_may_take_over() {
        let server = ApiServer::default();
        let mut leader = leader(&server).await;
        server.unreachable(true);
        let since = Instant::now();
        assert!(leader.hold(&CancellationToken::new()).await);
        assert!(since.elapsed() >= QUICK.renew_deadline && since.elapsed() < QUICK.lease_duration);
    }

    #[tokio::test]
    async fn a_standby_waits_for_a_lease_that_nobody_renews() {
        let server = ApiServer::default();
        let _silent = leader(&server).await;
        let mut standby = candidate(&server, "two");
        let since = Instant::now();
        assert!(standby.acquire(&CancellationToken::new()).await);
        assert!(since.elapsed() >= QUICK.lease_duration);
    }

    #[tokio::test]
    async fn a_released_lease_is_taken_at_once() {
        let server = ApiServer::default();
        leader(&server).await.release().await.unwrap();
        let mut standby = candidate(&server, "two");
        let since = Instant::now();
        assert!(standby.acquire(&CancellationToken::new()).await);
        assert!(since.elapsed() < QUICK.retry_period);
    }
}
