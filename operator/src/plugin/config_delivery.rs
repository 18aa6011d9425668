//! Config as it is delivered to the sidecars of each activation. Pure.

use std::collections::BTreeSet;

use paperclip_bridge::config::{ActivationConfig, DeliveredConfig};
use paperclip_crds::v1alpha1::PaperclipPluginRevisionSpec;

use super::instance_config::Config;

/// The config to deliver, from the one that was delivered before.
///
/// - `active` goes on with what it has: config that a worker accepted is copied, never made
///   anew from a spec that may have moved on.
/// - `wanted`, with its config, is the candidate of its activation, until it is active.
/// - Activations in `live` still have pods, which may restart.
#[must_use]
pub fn build(
    before: &DeliveredConfig,
    active: Option<&PaperclipPluginRevisionSpec>,
    wanted: Option<(&PaperclipPluginRevisionSpec, &Config)>,
    live: &BTreeSet<u64>,
) -> DeliveredConfig {
    let mut now = DeliveredConfig::default();
    let is_active =
        |activation: u64| active.is_some_and(|active| activation_of(active) == activation);
    for (&activation, config) in &before.activations {
        if (is_active(activation) || live.contains(&activation)) && config.active.is_some() {
            let kept = ActivationConfig {
                active: config.active.clone(),
                candidate: None,
            };
            now.activations.insert(activation, kept);
        }
    }
    if let Some(active) = active {
        let number = number_of(active);
        let entry = now.activations.entry(activation_of(active)).or_default();
        if entry
            .active
            .as_ref()
            .is_none_or(|config| config.revision != number)
        {
            let handed = before.activations.get(&activation_of(active));
            let accepted = handed.and_then(|config| config.candidate.clone());
            let accepted = accepted.filter(|config| config.revision == number);
            let anew = wanted
                .filter(|(revision, _)| number_of(revision) == number)
                .map(|(_, config)| config.delivered(number));
            if let Some(config) = accepted.or(anew) {
                entry.active = Some(config);
            }
        }
    }
    if let Some((revision, config)) = wanted
        && active.is_none_or(|active| active.number != revision.number)
    {
        let entry = now.activations.entry(activation_of(revision)).or_default();
        entry.candidate = Some(config.delivered(number_of(revision)));
    }
    let is_empty =
        |config: &ActivationConfig| config.active.is_none() && config.candidate.is_none();
    now.activations.retain(|_, config| !is_empty(config));
    now
}

/// Activation number of a revision. The schema keeps it above zero.
#[must_use]
pub fn activation_of(revision: &PaperclipPluginRevisionSpec) -> u64 {
    u64::try_from(revision.activation).unwrap_or_default()
}

/// Number of a revision. The schema keeps it above zero.
#[must_use]
pub fn number_of(revision: &PaperclipPluginRevisionSpec) -> u64 {
    u64::try_from(revision.number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use serde_json::json;

    fn config(colour: &str) -> Config {
        Config {
            visible: json!({ "colour": colour }).as_object().unwrap().clone(),
            secrets: Vec::new(),
        }
    }

    /// Activation, kind, revision and colour of everything that is handed over.
    fn told(config: &DeliveredConfig) -> Vec<String> {
        let mut all = Vec::new();
        for (activation, config) in &config.activations {
            for (kind, config) in [("active", &config.active), ("candidate", &config.candidate)] {
                if let Some(config) = config {
                    let colour = &config.config["colour"];
                    all.push(format!("{activation} {kind} {} {colour}", config.revision));
                }
            }
        }
        all
    }

    #[test]
    fn a_candidate_becomes_active_and_another_candidate_stands_beside_it() {
        let (one, two) = (fixtures::revision(1, 1), fixtures::revision(2, 1));
        let none = BTreeSet::new();
        let first = build(
            &DeliveredConfig::default(),
            None,
            Some((&one, &config("red"))),
            &none,
        );
        assert_eq!(told(&first), ["1 candidate 1 \"red\""]);
        let active = build(&first, Some(&one), Some((&one, &config("red"))), &none);
        assert_eq!(told(&active), ["1 active 1 \"red\""]);
        let asked = build(&active, Some(&one), Some((&two, &config("blue"))), &none);
        assert_eq!(
            told(&asked),
            ["1 active 1 \"red\"", "1 candidate 2 \"blue\""]
        );
        let moved = build(&asked, Some(&two), Some((&two, &config("blue"))), &none);
        assert_eq!(told(&moved), ["1 active 2 \"blue\""]);
    }

    #[test]
    fn a_refused_candidate_goes_and_what_was_accepted_stays() {
        let (one, two) = (fixtures::revision(1, 1), fixtures::revision(2, 1));
        let none = BTreeSet::new();
        let first = build(
            &DeliveredConfig::default(),
            Some(&one),
            Some((&one, &config("red"))),
            &none,
        );
        let asked = build(&first, Some(&one), Some((&two, &config("blue"))), &none);
        assert_eq!(
            told(&build(&asked, Some(&one), None, &none)),
            ["1 active 1 \"red\""]
        );
    }

    #[test]
    fn old_pods_keep_their_config_while_they_live() {
        let (one, two) = (fixtures::revision(1, 1), fixtures::revision(2, 2));
        let live = BTreeSet::from([1, 2]);
        let first = build(
            &DeliveredConfig::default(),
            Some(&one),
            Some((&one, &config("red"))),
            &live,
        );
        let asked = build(&first, Some(&one), Some((&two, &config("blue"))), &live);
        let moved = build(&asked, Some(&two), Some((&two, &config("blue"))), &live);
        assert_eq!(told(&moved), ["1 active 1 \"red\"", "2 active 2 \"blue\""]);
        let alone = build(
            &moved,
            Some(&two),
            Some((&two, &config("blue"))),
            &BTreeSet::from([2]),
        );
        assert_eq!(told(&alone), ["2 active 2 \"blue\""]);
    }

    #[test]
    fn a_lost_handover_is_made_again_for_the_revision_the_spec_asks_for() {
        let one = fixtures::revision(1, 1);
        let again = build(
            &DeliveredConfig::default(),
            Some(&one),
            Some((&one, &config("red"))),
            &BTreeSet::new(),
        );
        assert_eq!(told(&again), ["1 active 1 \"red\""]);
    }
}
