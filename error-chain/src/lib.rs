//! An error and its causes, as one sentence for the person at the end of the chain.

use std::error::Error;

/// The error's text, then that of each cause, joined by colons.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
