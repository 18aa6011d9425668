//! Which pod of a plugin takes new work: one that serves, of the highest activation.

use paperclip_proto::v1::Phase;

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
pub enum Share {
    /// Calls are spread; the number turns.
    Spread(usize),
    /// Events and jobs go to the first pod by name.
    First,
}

/// The index of the pod that takes the work, or none while no pod serves.
pub fn choose(candidates: &[Candidate<'_>], share: Share) -> Option<usize> {
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
        Share::First => equal.first().copied(),
    }
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
        assert_eq!(choose(&pods, Share::Spread(0)), Some(1));
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
}
