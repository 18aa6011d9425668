//! Brings config to one run of a worker: what is in force at its start, where its set-up may read
//! it already, and then whatever it accepts, without a restart where it can hear of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::{
    config::{ActivationConfig, ConfigRevision},
    v1::RpcError,
};
use paperclip_protocol::{DEFAULT_COMPANY, jsonrpc};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::filled;
use crate::multiplexer::Multiplexer;

/// How long the worker may take over `validateConfig` and `configChanged`, as in the original.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The outcome of applying a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOutcome {
    /// The worker has what it needs to serve.
    Configured,
    /// The worker refused the only config there is, with these words.
    Rejected(String),
    /// The worker takes a changed config up at its start only.
    NeedsRestart,
}

/// The next step of applying config.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// The worker accepted this before, or nobody asks it to.
    Adopt(Arc<ConfigRevision>),
    /// The worker is asked.
    Try(Arc<ConfigRevision>),
    /// There is no config.
    Serve,
    /// All is as delivered.
    Rest,
}

/// The config that a worker reads from its first line on: what one before it accepted, else what
/// is active, else what it will be asked about.
fn at_start(
    accepted: u64,
    refused: u64,
    delivered: &ActivationConfig,
) -> Option<Arc<ConfigRevision>> {
    match decide(None, accepted, refused, delivered) {
        Next::Adopt(config) | Next::Try(config) => Some(config),
        Next::Serve | Next::Rest => None,
    }
}

/// Has the worker that is about to be initialised read the config that is in force.
pub fn prepare(multiplexer: &Multiplexer, delivered: &ActivationConfig) {
    let refused = multiplexer.state.now().config.refused_revision;
    let config = at_start(multiplexer.settings.accepted(), refused, delivered);
    hold(multiplexer, config);
}

/// From now on the worker reads this, and hosts know it.
fn hold(multiplexer: &Multiplexer, config: Option<Arc<ConfigRevision>>) {
    let settings = &multiplexer.settings;
    if let Some(config) = &config {
        settings.conceal(config);
    }
    let shown = config.as_ref().map(|config| config.config.clone());
    settings.hold(config);
    multiplexer.state.update(|state| {
        state.config_json = to_bytes(&Value::Object(shown.unwrap_or_default()));
    });
    multiplexer.announce_config();
}

/// Decides from what the worker has, what was refused, and what is delivered.
///
/// `has` is the revision that was sent to this run of the worker, none at its start; `accepted`
/// the one that an earlier run accepted.
fn decide(has: Option<u64>, accepted: u64, refused: u64, delivered: &ActivationConfig) -> Next {
    let share = |config: &ConfigRevision| Arc::new(config.clone());
    let ActivationConfig { active, candidate } = delivered;
    let of = |wanted: u64| {
        let both = [candidate, active];
        both.into_iter()
            .flatten()
            .find(|config| config.revision == wanted)
    };
    match has {
        None => match (of(accepted), active, candidate) {
            (Some(accepted), _, _) => Next::Adopt(share(accepted)),
            (None, Some(active), _) => Next::Adopt(share(active)),
            (None, None, Some(candidate)) if candidate.revision == refused => Next::Rest,
            (None, None, Some(candidate)) => Next::Try(share(candidate)),
            (None, None, None) => Next::Serve,
        },
        Some(has) => match (candidate, active) {
            (Some(candidate), _) if candidate.revision == has => Next::Rest,
            (Some(candidate), _) if candidate.revision != refused => Next::Try(share(candidate)),
            (None, Some(active)) if active.revision != has => Next::Adopt(share(active)),
            _ => Next::Rest,
        },
    }
}

/// Keeps one run of a worker in step with what is delivered, until the run ends.
#[derive(Debug)]
pub struct ConfigApplier {
    multiplexer: Arc<Multiplexer>,
    delivered: watch::Receiver<ActivationConfig>,
    found: mpsc::Sender<ConfigOutcome>,
    has: Option<u64>,
    validates: bool,
    hears: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Initialized {
    supported_methods: Vec<String>,
}

#[derive(Deserialize)]
struct Validated {
    ok: Value,
    #[serde(default)]
    errors: Vec<Value>,
}

impl ConfigApplier {
    /// For a worker that answered `initialize` with this. `has` is the revision
    /// that an earlier sidecar sent to it.
    pub fn new(
        multiplexer: Arc<Multiplexer>,
        delivered: watch::Receiver<ActivationConfig>,
        initialize_result: &[u8],
        has: Option<u64>,
        found: mpsc::Sender<ConfigOutcome>,
    ) -> Self {
        let methods: Initialized = serde_json::from_slice(initialize_result).unwrap_or_default();
        let supports = |method: &str| methods.supported_methods.iter().any(|one| one == method);
        Self {
            validates: supports("validateConfig"),
            hears: supports("configChanged"),
            multiplexer,
            delivered,
            found,
            has,
        }
    }

    /// Works until nobody listens.
    pub async fn run(mut self) {
        self.take_over();
        loop {
            let delivered = self.delivered.borrow_and_update().clone();
            let state = self.multiplexer.state.now().config;
            let accepted = self.multiplexer.settings.accepted();
            let next = decide(self.has, accepted, state.refused_revision, &delivered);
            let is_first = self.has.is_none();
            let outcome = match next {
                Next::Adopt(config) => self.adopt(config, is_first).await,
                Next::Try(config) => self.ask(config, is_first).await,
                Next::Serve => {
                    self.has = Some(0);
                    Some(ConfigOutcome::Configured)
                }
                Next::Rest => {
                    if self.delivered.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    continue;
                }
            };
            if let Some(found) = outcome
                && self.found.send(found).await.is_err()
            {
                return;
            }
        }
    }

    /// A worker to which an earlier sidecar sent a revision has it already.
    fn take_over(&mut self) {
        let Some(has) = self.has else { return };
        let delivered = self.delivered.borrow().clone();
        let both = [delivered.active, delivered.candidate];
        match both
            .into_iter()
            .flatten()
            .find(|config| config.revision == has)
        {
            Some(config) => {
                hold(&self.multiplexer, Some(Arc::new(config)));
                self.took(has);
            }
            // It is no more delivered, so the worker is sent what is.
            None => self.has = None,
        }
    }

    /// The worker has this revision.
    fn took(&mut self, revision: u64) {
        self.has = Some(revision);
        self.multiplexer.settings.accept(revision);
        // Only now: a successor of this sidecar tells the worker again what it may not know.
        self.multiplexer.settings.mark_sent(revision);
        self.multiplexer.state.update(|state| {
            state.config.revision = revision;
            if state.config.refused_revision <= revision {
                state.config.refused_revision = 0;
                state.config.message.clear();
            }
        });
        self.multiplexer.remember();
    }

    /// The worker does not take this revision, for this reason.
    fn refuse(&self, revision: u64, words: &str) -> String {
        let words = self.multiplexer.settings.redact(words);
        tracing::warn!(revision, "the worker refused a config: {words}");
        self.multiplexer.state.update(|state| {
            state.config.refused_revision = revision;
            state.config.message = words.clone();
        });
        words
    }

    /// Hands over a config that needs no leave.
    async fn adopt(
        &mut self,
        config: Arc<ConfigRevision>,
        is_first: bool,
    ) -> Option<ConfigOutcome> {
        let revision = config.revision;
        match self.hand_over(&config, is_first).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) && !is_first => {
                // A successor begins with it, and only then the worker has it.
                self.has = Some(revision);
                self.multiplexer.settings.accept(revision);
                return Some(ConfigOutcome::NeedsRestart);
            }
            Err(error) if is_first => {
                // It had the config to read since its set-up.
                let words = self.multiplexer.settings.redact(&error.message);
                tracing::warn!(revision, "the worker did not take its config well: {words}");
            }
            Err(error) => {
                self.has = Some(revision);
                self.refuse(revision, &failed("configChanged", &error));
                return None;
            }
        }
        self.took(revision);
        is_first.then_some(ConfigOutcome::Configured)
    }

    /// Has the worker read a config, and tells it so where that is news.
    async fn hand_over(
        &self,
        config: &Arc<ConfigRevision>,
        is_first: bool,
    ) -> Result<(), RpcError> {
        let before = self.multiplexer.settings.current();
        hold(&self.multiplexer, Some(config.clone()));
        let is_empty = config.config.is_empty() && config.secrets.is_empty();
        let is_same = before.is_some_and(|before| {
            before.config == config.config && before.secrets == config.secrets
        });
        match is_first {
            // A worker that hears of config hears of what it begins with, too.
            true if is_empty || !self.hears => Ok(()),
            false if is_same => Ok(()),
            _ => self.tell(config).await,
        }
    }

    /// Asks the worker whether it accepts a config, and hands it over if it does. A config that it
    /// does not take leaves everything as it was.
    async fn ask(&mut self, config: Arc<ConfigRevision>, is_first: bool) -> Option<ConfigOutcome> {
        self.multiplexer.settings.conceal(&config);
        if let Err(words) = self.validate(&config).await {
            let words = self.refuse(config.revision, &words);
            if is_first {
                hold(&self.multiplexer, None);
            }
            return is_first.then_some(ConfigOutcome::Rejected(words));
        }
        let (had, before) = (self.has, self.multiplexer.settings.current());
        let outcome = self.adopt(config.clone(), is_first).await;
        if self.multiplexer.state.now().config.refused_revision == config.revision {
            self.has = had;
            hold(&self.multiplexer, before);
        }
        outcome
    }

    async fn validate(&self, config: &ConfigRevision) -> Result<(), String> {
        if !self.validates {
            return Ok(());
        }
        let params = json!({ "config": filled(config.config.clone(), &config.secrets) });
        let asked = self
            .multiplexer
            .internal_call("validateConfig", to_bytes(&params), TIMEOUT);
        match asked.await {
            Ok(answer) => verdict(&answer),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(failed("validateConfig", &error)),
        }
    }

    /// Tells the worker of a config, on behalf of the company whose config it is: what its handler
    /// asks is asked within that.
    async fn tell(&self, config: &ConfigRevision) -> Result<(), RpcError> {
        if !self.hears {
            let message = "the worker has no configChanged";
            return Err(RpcError::new(jsonrpc::METHOD_NOT_IMPLEMENTED, message));
        }
        let params = json!({
            "config": filled(config.config.clone(), &config.secrets),
            "companyId": DEFAULT_COMPANY,
        });
        let told = self
            .multiplexer
            .tell_config(config.revision, to_bytes(&params), TIMEOUT);
        told.await.map(drop)
    }
}

fn failed(method: &str, error: &RpcError) -> String {
    format!("{method} failed ({}): {}", error.code, error.message)
}

fn to_bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

fn is_missing(error: &RpcError) -> bool {
    matches!(
        error.code,
        jsonrpc::METHOD_NOT_FOUND | jsonrpc::METHOD_NOT_IMPLEMENTED
    )
}

/// Reads the answer to `validateConfig`.
fn verdict(answer: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<Validated>(answer) {
        Ok(Validated {
            ok: Value::Bool(true),
            ..
        }) => Ok(()),
        Ok(Validated { errors, .. }) if !errors.is_empty() => {
            let words: Vec<String> = errors
                .iter()
                .map(|error| {
                    error
                        .as_str()
                        .map_or_else(|| error.to_string(), str::to_owned)
                })
                .collect();
            Err(words.join("; "))
        }
        Ok(_) => Err("it gave no cause".into()),
        Err(_) => Err("its answer to validateConfig is none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(revision: u64) -> ConfigRevision {
        ConfigRevision {
            revision,
            ..ConfigRevision::default()
        }
    }

    fn delivered(active: Option<u64>, candidate: Option<u64>) -> ActivationConfig {
        ActivationConfig {
            active: active.map(config),
            candidate: candidate.map(config),
        }
    }

    fn adopt(revision: u64) -> Next {
        Next::Adopt(Arc::new(config(revision)))
    }

    fn ask(revision: u64) -> Next {
        Next::Try(Arc::new(config(revision)))
    }

    #[test]
    fn a_start_takes_what_was_accepted_and_asks_where_nothing_was() {
        assert_eq!(decide(None, 0, 0, &delivered(Some(1), Some(2))), adopt(1));
        assert_eq!(decide(None, 0, 0, &delivered(None, Some(2))), ask(2));
        assert_eq!(decide(None, 0, 0, &delivered(None, None)), Next::Serve);
    }

    #[test]
    fn a_restarted_worker_gets_what_its_predecessor_accepted() {
        assert_eq!(decide(None, 2, 0, &delivered(Some(1), Some(2))), adopt(2));
    }

    #[test]
    fn a_candidate_is_asked_for_once() {
        assert_eq!(decide(Some(1), 1, 0, &delivered(Some(1), Some(2))), ask(2));
        assert_eq!(
            decide(Some(1), 1, 2, &delivered(Some(1), Some(2))),
            Next::Rest
        );
        assert_eq!(
            decide(Some(2), 2, 0, &delivered(Some(1), Some(2))),
            Next::Rest
        );
        assert_eq!(decide(Some(2), 2, 0, &delivered(Some(2), None)), Next::Rest);
    }

    #[test]
    fn a_candidate_that_is_taken_away_leaves_what_is_active() {
        assert_eq!(decide(Some(2), 2, 0, &delivered(Some(1), None)), adopt(1));
    }

    #[test]
    fn the_words_of_a_refusal_are_kept() {
        assert_eq!(verdict(br#"{"ok":true,"errors":[]}"#), Ok(()));
        let refused = verdict(br#"{"ok":false,"errors":["a: no","b: no"]}"#);
        assert_eq!(refused, Err("a: no; b: no".into()));
        assert!(verdict(b"7").is_err());
    }
}
