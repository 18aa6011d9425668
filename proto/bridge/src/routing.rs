//! Which pod of a plugin takes new work: one that serves, of the highest activation.
//!
//! Every host decides alike and on its own, from what the pods say of themselves.

use sha2::{Digest as _, Sha256};

use crate::v1::Phase;

/// A pod, as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Name of the pod.
    pub pod: &'a str,
    /// Its activation number.
    pub activation: u64,
    /// Its phase.
    pub phase: Phase,
}

/// How work is shared out among equal pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share<'a> {
    /// Calls are spread; the number turns.
    Spread(usize),
    /// Calls of one key go to one pod for as long as it serves.
    Sticky(&'a str),
    /// Events and jobs go to the first pod by name.
    First,
}

/// The index of the pod that takes the work, or none while no pod serves.
#[must_use]
pub fn choose(candidates: &[Candidate<'_>], share: Share<'_>) -> Option<usize> {
    let serving = |(_, candidate): &(usize, &Candidate<'_>)| candidate.phase == Phase::Serving;
    let newest = candidates
        .iter()
        .enumerate()
        .filter(serving)
        .map(|(_, candidate)| candidate.activation)
        .max()?;
    let mut equal: Vec<usize> = candidates
        .iter()
        .enumerate()
        .filter(serving)
        .filter(|(_, candidate)| candidate.activation == newest)
        .map(|(index, _)| index)
        .collect();
    equal.sort_by_key(|index| candidates[*index].pod);
    match share {
        Share::Spread(turn) => Some(equal[turn % equal.len()]),
        Share::Sticky(key) => equal
            .into_iter()
            .max_by_key(|index| weight(key, candidates[*index].pod)),
        Share::First => equal.first().copied(),
    }
}

/// The heaviest pod has the key (rendezvous hashing): one that comes or goes moves its own keys alone.
fn weight(key: &str, pod: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(pod);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(pod: &str, activation: u64, phase: Phase) -> Candidate<'_> {
        Candidate {
            pod,
            activation,
            phase,
        }
    }

    #[test]
    fn the_newest_activation_that_serves_takes_the_work() {
        let pods = [
            pod("old", 1, Phase::Serving),
            pod("new", 2, Phase::Starting),
            pod("newer", 3, Phase::Draining),
        ];
        assert_eq!(choose(&pods, Share::First), Some(0));
        let pods = [pod("old", 1, Phase::Serving), pod("new", 2, Phase::Serving)];
        for share in [Share::Spread(0), Share::Sticky("k"), Share::First] {
            assert_eq!(choose(&pods, share), Some(1));
        }
    }

    #[test]
    fn nobody_takes_work_while_nobody_serves() {
        assert_eq!(choose(&[], Share::First), None);
        assert_eq!(choose(&[pod("a", 1, Phase::Draining)], Share::First), None);
    }

    #[test]
    fn calls_are_spread_and_jobs_go_to_the_first_by_name() {
        let pods = [pod("b", 1, Phase::Serving), pod("a", 1, Phase::Serving)];
        assert_eq!(choose(&pods, Share::Spread(0)), Some(1));
        assert_eq!(choose(&pods, Share::Spread(1)), Some(0));
        assert_eq!(choose(&pods, Share::Spread(2)), Some(1));
        assert_eq!(choose(&pods, Share::First), Some(1));
    }

    #[test]
    fn a_key_stays_with_its_pod_whatever_order_pods_are_known_in_and_moves_only_when_that_goes() {
        let names = ["a", "b", "c"];
        let of = |names: &[&str], key: &str| {
            let pods: Vec<_> = names
                .iter()
                .map(|name| pod(name, 1, Phase::Serving))
                .collect();
            let chosen = choose(&pods, Share::Sticky(key)).unwrap();
            names[chosen].to_owned()
        };
        let keys: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let mut held = [0; 3];
        for key in &keys {
            let before = of(&names, key);
            held[names.iter().position(|name| *name == before).unwrap()] += 1;
            assert_eq!(of(&["c", "a", "b"], key), before);
            let left: Vec<&str> = names.into_iter().filter(|name| *name != "b").collect();
            if before != "b" {
                assert_eq!(of(&left, key), before);
            }
        }
        assert!(held.iter().all(|count| *count > 60), "{held:?}");
    }
}
