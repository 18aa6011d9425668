//! From findings to conditions: pure, so that every combination can be tested.

use k8s_openapi::jiff::Timestamp;
use paperclip_crds::v1alpha1::{Class, Condition, ConditionType, Reason};

/// Observed state of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// True: the stage is as it should be.
    pub holds: bool,
    /// The cause in one word.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
}

impl Finding {
    /// The stage is as it should be.
    #[must_use]
    pub fn yes(message: impl Into<String>) -> Self {
        Self {
            holds: true,
            reason: Reason::Succeeded,
            message: message.into(),
        }
    }

    /// The finding with what to do about it, for the person who reads only `Ready`.
    #[must_use]
    pub fn with_advice(&self) -> Self {
        let advice = self.reason.advice().filter(|_| !self.holds);
        let message = match advice {
            None => self.message.clone(),
            Some(advice) => {
                let cause = self.message.trim_end();
                let stop = if cause.ends_with(['.', '!', '?', '…']) {
                    ""
                } else {
                    "."
                };
                format!("{cause}{stop} {advice}")
            }
        };
        Self {
            message,
            ..self.clone()
        }
    }

    /// The stage is not there, for this reason.
    #[must_use]
    pub fn no(reason: Reason, message: String) -> Self {
        Self {
            holds: false,
            reason,
            message,
        }
    }
}

/// Verdict of the trust policies about the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is asked for.
    Skipped(String),
    /// It is being checked, or that failed without fault of the artifact.
    Pending(Finding),
    /// All policies are met.
    Holds(Finding),
    /// It may not roll out.
    Refused(Finding),
}

impl Default for Verdict {
    fn default() -> Self {
        Self::Skipped("No policy requires signatures.".into())
    }
}

impl Verdict {
    /// Why a new revision may not roll out.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Finding> {
        match self {
            Self::Skipped(_) | Self::Holds(_) => None,
            Self::Pending(finding) | Self::Refused(finding) => Some(finding),
        }
    }

    fn told(&self) -> (&'static str, Finding) {
        match self {
            Self::Skipped(message) => ("Unknown", Finding::no(Reason::Skipped, message.clone())),
            Self::Pending(finding) => ("Unknown", finding.clone()),
            Self::Holds(finding) => ("True", finding.clone()),
            Self::Refused(finding) => ("False", finding.clone()),
        }
    }
}

/// Everything that a reconcile found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// An obstacle before all stages: a host that forbids, a pin that differs.
    pub obstacle: Option<Finding>,
    /// `ArtifactReady`.
    pub artifact: Finding,
    /// `Verified`.
    pub verdict: Verdict,
    /// State of the artifact's revision; none while there is no revision.
    pub revision: Option<Revision>,
    /// `WorkerAvailable`.
    pub worker: Finding,
    /// `HostAttached`.
    pub host: Finding,
    /// Enforcement of the pod's closed egress, where a pod tried it.
    pub egress: Option<Finding>,
    /// Nothing more happens until a person acts.
    pub stalled: bool,
    /// `spec.suspend` is set.
    pub suspended: bool,
}

/// State of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// `Granted`.
    pub granted: Finding,
    /// Why it does not run, where that is settled.
    pub failed: Option<Finding>,
    /// `ConfigValid`.
    pub config: Finding,
}

impl Findings {
    /// The finding that `Ready` repeats.
    #[must_use]
    pub fn summary(&self) -> Finding {
        if self.suspended {
            let message = "spec.suspend is set: the pods are stopped.".into();
            return Finding::no(Reason::Suspended, message);
        }
        let revision = self.revision.iter().flat_map(|revision| {
            let granted = std::iter::once(&revision.granted);
            granted.chain(&revision.failed).chain([&revision.config])
        });
        // A worker that is yet to be asked is no cause where something else is.
        let (waits, revision): (Vec<_>, Vec<_>) =
            revision.partition(|finding| finding.reason == Reason::Progressing);
        let obstacle = self.obstacle.iter();
        obstacle
            .chain([&self.artifact])
            .chain(revision)
            .chain([&self.worker, &self.host])
            .chain(waits)
            .find(|finding| !finding.holds)
            .cloned()
            .unwrap_or_else(|| {
                Finding::yes("The worker answers and the host's session pings both ways.")
            })
    }

    /// One word in Paperclip's vocabulary.
    #[must_use]
    pub fn lifecycle(&self) -> &'static str {
        let summary = self.summary();
        if summary.holds {
            "ready"
        } else if self.suspended {
            "disabled"
        } else if summary.reason == Reason::CapabilitiesAdded {
            "upgrade_pending"
        } else if self.stalled || summary.reason.class() != Class::Calm {
            "error"
        } else {
            "installed"
        }
    }
}

/// The conditions of a pass. A transition time moves only with its status.
#[must_use]
pub fn conditions(
    findings: &Findings,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let mut wanted = heads(&findings.summary(), findings.stalled);
    if findings.suspended {
        wanted.truncate(1);
    }
    let Findings {
        artifact,
        verdict,
        revision,
        worker,
        host,
        egress,
        ..
    } = findings;
    wanted.push((
        ConditionType::ArtifactReady,
        word(artifact.holds),
        artifact.clone(),
    ));
    let (status, verified) = verdict.told();
    wanted.push((ConditionType::Verified, status, verified));
    if let Some(Revision {
        granted, config, ..
    }) = revision
    {
        let granted = granted.clone();
        wanted.push((ConditionType::Granted, word(granted.holds), granted));
        let config = config.clone();
        wanted.push((ConditionType::ConfigValid, word(config.holds), config));
    }
    wanted.push((
        ConditionType::WorkerAvailable,
        word(worker.holds),
        worker.clone(),
    ));
    wanted.push((ConditionType::HostAttached, word(host.holds), host.clone()));
    let egress = egress
        .as_ref()
        .map(|egress| (word(egress.holds), egress.clone()));
    let (status, egress) = egress.unwrap_or_else(|| {
        let message = "No pod has tried to leave where no policy allows it.".into();
        ("Unknown", Finding::no(Reason::Pending, message))
    });
    wanted.push((ConditionType::EgressEnforced, status, egress));
    wanted
        .into_iter()
        .map(|(type_, status, finding)| {
            condition(type_, status, finding, generation, previous, now)
        })
        .collect()
}

/// `Ready`, and `Stalled` or `Reconciling` where it is not True.
fn heads(ready: &Finding, stalled: bool) -> Vec<(ConditionType, &'static str, Finding)> {
    let ready = ready.with_advice();
    let beside = match (ready.holds, stalled) {
        (true, _) => None,
        (false, true) => Some(ConditionType::Stalled),
        (false, false) => Some(ConditionType::Reconciling),
    };
    let beside = beside.map(|type_| (type_, "True", ready.clone()));
    [(ConditionType::Ready, word(ready.holds), ready)]
        .into_iter()
        .chain(beside)
        .collect()
}

/// The conditions of a pass that broke off: the stages stay as they were seen last, with
/// the generation they were seen in.
#[must_use]
pub fn broken_off(
    cause: &Finding,
    stalled: bool,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let summaries = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
    ];
    let is_stage = |found: &&Condition| {
        summaries
            .iter()
            .all(|summary| summary.to_string() != found.type_)
    };
    let stages = previous.iter().filter(is_stage).cloned();
    heads(cause, stalled)
        .into_iter()
        .map(|(type_, status, finding)| {
            condition(type_, status, finding, generation, previous, now)
        })
        .chain(stages)
        .collect()
}

/// The one condition of a resource that was seen for the first time.
#[must_use]
pub fn first(generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let seen = Finding::no(
        Reason::Pending,
        "The operator has seen the resource.".into(),
    );
    let of = |type_, status| condition(type_, status, seen.clone(), generation, &[], now);
    vec![
        of(ConditionType::Ready, "Unknown"),
        of(ConditionType::Reconciling, "True"),
    ]
}

/// One condition, with the time of its last transition.
#[must_use]
pub fn condition(
    type_: ConditionType,
    status: &str,
    finding: Finding,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let type_ = type_.to_string();
    let since = previous
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
        .map(|condition| condition.last_transition_time.clone());
    Condition {
        type_,
        status: status.to_owned(),
        reason: finding.reason.to_string(),
        message: finding.message,
        last_transition_time: since.unwrap_or_else(|| rfc3339(now)),
        observed_generation: generation,
    }
}

/// A time as the API writes it, in whole seconds.
#[must_use]
pub fn rfc3339(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn word(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Findings {
        Findings {
            obstacle: None,
            artifact: Finding::yes("a"),
            verdict: Verdict::default(),
            worker: Finding::yes("w"),
            host: Finding::yes("h"),
            revision: None,
            egress: None,
            stalled: false,
            suspended: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn words(findings: &Findings) -> Vec<String> {
        told(&conditions(findings, Some(1), &[], at(0)))
    }

    fn told(conditions: &[Condition]) -> Vec<String> {
        conditions
            .iter()
            .map(|found| format!("{}={} {}", found.type_, found.status, found.reason))
            .collect()
    }

    #[test]
    fn a_pass_that_broke_off_leaves_the_stages_as_they_were_seen() {
        let failed = Findings {
            artifact: Finding::no(Reason::PackageNotFound, "none".into()),
            stalled: true,
            ..fine()
        };
        let before = conditions(&failed, Some(1), &[], at(0));
        let cause = Finding::no(Reason::ApplyFailed, "refused".into());
        let after = broken_off(&cause, false, Some(2), &before, at(60));
        assert_eq!(
            told(&after),
            [
                "Ready=False ApplyFailed",
                "Reconciling=True ApplyFailed",
                "ArtifactReady=False PackageNotFound",
                "Verified=Unknown Skipped",
                "WorkerAvailable=True Succeeded",
                "HostAttached=True Succeeded",
                "EgressEnforced=Unknown Pending",
            ]
        );
        assert_eq!(after[0].observed_generation, Some(2));
        assert_eq!(after[2], before[2]);
    }

    #[test]
    fn all_stages_make_ready_and_nothing_abnormal() {
        assert_eq!(
            words(&fine()),
            [
                "Ready=True Succeeded",
                "ArtifactReady=True Succeeded",
                "Verified=Unknown Skipped",
                "WorkerAvailable=True Succeeded",
                "HostAttached=True Succeeded",
                "EgressEnforced=Unknown Pending",
            ]
        );
        assert_eq!(fine().lifecycle(), "ready");
    }

    #[test]
    fn a_suspended_plugin_is_neither_reconciling_nor_stalled() {
        let findings = Findings {
            worker: Finding::no(Reason::Pending, "stopped".into()),
            suspended: true,
            ..fine()
        };
        assert_eq!(
            words(&findings)[..2],
            ["Ready=False Suspended", "ArtifactReady=True Succeeded"]
        );
        assert_eq!(findings.lifecycle(), "disabled");
    }

    #[test]
    fn a_revision_that_was_taken_back_is_the_cause_although_the_old_one_serves() {
        let findings = Findings {
            revision: Some(Revision {
                granted: Finding::yes("g"),
                failed: Some(Finding::no(Reason::RolledBack, "late".into())),
                config: Finding::no(Reason::RolledBack, "late".into()),
            }),
            stalled: true,
            ..fine()
        };
        assert_eq!(
            words(&findings)[..2],
            ["Ready=False RolledBack", "Stalled=True RolledBack"]
        );
        assert!(words(&findings).contains(&"WorkerAvailable=True Succeeded".to_owned()));
    }

    #[test]
    fn capabilities_that_wait_for_leave_are_an_upgrade_pending() {
        let findings = Findings {
            revision: Some(Revision {
                granted: Finding::no(Reason::CapabilitiesAdded, "z".into()),
                failed: None,
                config: Finding::yes("c"),
            }),
            stalled: true,
            ..fine()
        };
        assert_eq!(findings.lifecycle(), "upgrade_pending");
    }

    #[test]
    fn an_absent_host_is_work_under_way() {
        let findings = Findings {
            host: Finding::no(Reason::HostAbsent, "none".into()),
            ..fine()
        };
        assert_eq!(
            words(&findings)[..2],
            ["Ready=False HostAbsent", "Reconciling=True HostAbsent"]
        );
        assert_eq!(findings.lifecycle(), "installed");
    }

    #[test]
    fn a_package_at_fault_is_stalled_and_not_reconciling() {
        let findings = Findings {
            artifact: Finding::no(Reason::PackageNotFound, "none".into()),
            stalled: true,
            ..fine()
        };
        assert_eq!(
            words(&findings)[..2],
            [
                "Ready=False PackageNotFound",
                "Stalled=True PackageNotFound"
            ]
        );
        assert!(
            !words(&findings)
                .iter()
                .any(|word| word.starts_with("Reconciling"))
        );
        assert_eq!(findings.lifecycle(), "error");
    }

    #[test]
    fn ready_says_what_to_do_and_the_stage_only_what_is_wrong() {
        let findings = Findings {
            worker: Finding::no(Reason::QuotaExceeded, "exceeded quota: tight".into()),
            ..fine()
        };
        let all = conditions(&findings, Some(1), &[], at(0));
        let message = |type_: &str| {
            let found = all.iter().find(|found| found.type_ == type_);
            found.map(|found| found.message.as_str())
        };
        let told = "exceeded quota: tight. Raise the quota or free what it counts, and the pod comes by itself.";
        assert_eq!(message("Ready"), Some(told));
        assert_eq!(message("Reconciling"), Some(told));
        assert_eq!(message("WorkerAvailable"), Some("exceeded quota: tight"));
    }

    #[test]
    fn first_stage_that_fails_is_the_cause() {
        let findings = Findings {
            artifact: Finding::no(Reason::Packing, "p".into()),
            worker: Finding::no(Reason::Pending, "w".into()),
            ..fine()
        };
        assert_eq!(findings.summary().reason, Reason::Packing);
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let before = conditions(&fine(), Some(1), &[], at(0));
        let same = conditions(&fine(), Some(2), &before, at(60));
        assert_eq!(same[0].last_transition_time, "1970-01-01T00:00:00Z");
        let worse = Findings {
            worker: Finding::no(Reason::WorkerExited, "x".into()),
            ..fine()
        };
        let after = conditions(&worse, Some(2), &before, at(60));
        assert_eq!(after[0].last_transition_time, "1970-01-01T00:01:00Z");
        assert_eq!(after[2].last_transition_time, "1970-01-01T00:00:00Z");
    }
}
