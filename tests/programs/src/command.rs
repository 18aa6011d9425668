//! Commands that are run to their end.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error holds what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
