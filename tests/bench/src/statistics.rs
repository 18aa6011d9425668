//! Percentiles of durations and medians of runs.

use std::time::Duration;

/// Durations of one run, in milliseconds, sorted.
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes durations in any order.
    pub fn new(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut all: Vec<f64> = durations.into_iter().map(milliseconds).collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that this share of all does not exceed, by the nearest rank.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let index = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    /// All of them, one after the other.
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Half are at most this.
    pub fn p50(&self) -> f64 {
        self.percentile(0.50)
    }

    /// All but one in a hundred are at most this.
    pub fn p99(&self) -> f64 {
        self.percentile(0.99)
    }
}

/// The middle of some values, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.into_iter().collect();
    all.sort_by(f64::total_cmp);
    match (all.len(), all.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => all[middle],
        (_, middle) => f64::midpoint(all[middle - 1], all[middle]),
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let samples = Samples::new((1..=100).rev().map(Duration::from_millis));
        assert_eq!(
            [0.0, 0.01, 0.5, 0.99, 1.0].map(|share| samples.percentile(share)),
            [1.0, 1.0, 50.0, 99.0, 100.0]
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
