//! How a worker ended, in a sentence.

use paperclip_shim::protocol::Exit;

use super::SIGKILL;

/// Characters of stderr shown in the pod's state.
const SHOWN_STDERR: usize = 1000;

/// The sentence: how the worker ended, and the end of its stderr.
pub(super) fn describe(exit: &Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("the worker exited with code {code}"),
        (None, Some(SIGKILL)) => {
            "the worker was ended by signal 9, as when it uses more memory than its limit".into()
        }
        (None, Some(signal)) => format!("the worker was ended by signal {signal}"),
        (None, None) => "the worker ended".into(),
    };
    with_stderr(how, &exit.stderr)
}

/// Appends the end of stderr, cut.
pub(super) fn with_stderr(message: String, stderr: &str) -> String {
    let surplus = stderr.chars().count().saturating_sub(SHOWN_STDERR);
    let end: String = stderr.chars().skip(surplus).collect();
    match end.trim() {
        "" => message,
        end => format!("{message}; its last words: {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_described_with_the_end_of_stderr() {
        let exit = Exit {
            code: Some(1),
            signal: None,
            stderr: format!("{}Error: boom", "x".repeat(5000)),
        };
        let text = describe(&exit);
        assert!(text.starts_with("the worker exited with code 1; its last words: xxx"));
        assert!(text.ends_with("Error: boom"));
        assert!(text.len() < 1100);
    }
}
