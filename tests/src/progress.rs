//! Progress, for a person: one line a step on standard error.

use std::time::Instant;

/// Says what is happening now.
pub fn say(message: impl AsRef<str>) {
    eprintln!("cluster: {}", message.as_ref());
}

/// Runs a step, saying so before and how long it took after.
pub fn step<T>(what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    say(format!("{what} …"));
    let answer = run().map_err(|error| error.context(what.to_owned()))?;
    say(format!("{what}: {:.1} s", start.elapsed().as_secs_f32()));
    Ok(answer)
}
