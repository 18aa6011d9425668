//! Reads what a binary of libtest prints: its counts, and the tests that it left out.

/// How many tests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests, or checks, that hold.
    pub passed: usize,
    /// Tests, or checks, that do not.
    pub failed: usize,
    /// Tests that were not run.
    pub skipped: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Sums up the lines `test result: …`. None when there is no such line: the binary did not
/// come to its end.
pub fn counts(output: &str) -> Option<Counts> {
    let results = output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "));
    results.map(counts_of).reduce(|mut sum, one| {
        sum += one;
        sum
    })
}

/// Counts of `ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts_of(result: &str) -> Counts {
    let number = |word: &str| {
        let mut parts = result.split(['.', ';']).map(str::trim);
        let part = parts.find_map(|part| part.strip_suffix(word));
        part.and_then(|number| number.trim().parse().ok())
            .unwrap_or_default()
    };
    Counts {
        passed: number("passed"),
        failed: number("failed"),
        skipped: number("ignored"),
    }
}

/// Tests that were ignored, each with its reason if it has one.
pub fn ignored(output: &str) -> Vec<String> {
    lines_ending(output, "ignored")
}

/// Names of tests that failed.
pub fn failed(output: &str) -> Vec<String> {
    lines_ending(output, "FAILED")
}

/// Names in lines `test NAME ... WORD`, and what follows the word.
fn lines_ending(output: &str, word: &str) -> Vec<String> {
    let tests = output.lines().filter_map(|line| line.strip_prefix("test "));
    let ended = tests.filter_map(|line| {
        let (name, outcome) = line.split_once(" ... ")?;
        let reason = outcome.strip_prefix(word)?.trim_start_matches(", ");
        Some(if reason.is_empty() {
            name.to_owned()
        } else {
            format!("{name}: {reason}")
        })
    });
    ended.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test a::one ... ok
test a::two ... FAILED
test a::three ... ignored, needs eight cores

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s
";

    #[test]
    fn counts_are_those_of_the_result() {
        let counted = Counts {
            passed: 1,
            failed: 1,
            skipped: 1,
        };
        assert_eq!(counts(OUTPUT), Some(counted));
    }

    #[test]
    fn a_binary_that_ends_early_has_no_counts() {
        assert_eq!(counts("running 3 tests\ntest a::one ... ok\n"), None);
    }

    #[test]
    fn ignored_and_failed_tests_are_named() {
        assert_eq!(ignored(OUTPUT), ["a::three: needs eight cores"]);
        assert_eq!(failed(OUTPUT), ["a::two"]);
    }
}
