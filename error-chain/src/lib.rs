//! An error and its causes, as one sentence for the person at the end of the chain.

use std::{error::Error, iter::successors};

/// The error's text, then that of each cause, joined by colons. A cause whose text is there
/// already, since some libraries repeat their source in their own text, is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    chain_until(error, |_| None)
}

/// The same, where the text of one cause says all: `last` gives that text, and ends the chain.
#[must_use]
pub fn chain_until(
    error: &(dyn Error + 'static),
    last: impl Fn(&(dyn Error + 'static)) -> Option<String>,
) -> String {
    let mut chain = String::new();
    for cause in successors(Some(error), |&cause| cause.source()) {
        let end = last(cause);
        let is_end = end.is_some();
        let text = end.unwrap_or_else(|| cause.to_string());
        if chain.is_empty() {
            chain = text;
        } else if !chain.contains(&text) {
            chain = format!("{chain}: {text}");
        }
        if is_end {
            break;
        }
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn failure(texts: &[&'static str]) -> Failure {
        let (first, rest) = texts.split_first().unwrap();
        Failure(first, (!rest.is_empty()).then(|| Box::new(failure(rest))))
    }

    #[test]
    fn causes_follow_and_none_is_repeated() {
        assert_eq!(
            chain(&failure(&["read x", "no such file"])),
            "read x: no such file"
        );
        let repeated = failure(&["read x: no such file", "no such file"]);
        assert_eq!(chain(&repeated), "read x: no such file");
    }

    #[test]
    fn a_cause_that_says_all_ends_the_chain() {
        let error = failure(&["list pods", "api error", "transport"]);
        let last = |cause: &(dyn Error + 'static)| {
            (cause.to_string() == "api error").then(|| "pods is forbidden".to_owned())
        };
        assert_eq!(chain_until(&error, last), "list pods: pods is forbidden");
    }
}
