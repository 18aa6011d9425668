//! Waiting for conditions.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two probes of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until a probe finds something.
///
/// # Panics
/// When it finds nothing within [`PATIENCE`]; the panic names the condition.
pub async fn eventually<T>(condition: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    eventually_async(condition, async || probe()).await
}

/// The same for a probe that waits itself.
///
/// # Panics
/// When it finds nothing within [`PATIENCE`]; the panic names the condition.
pub async fn eventually_async<T>(condition: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {condition}");
        tokio::time::sleep(PAUSE).await;
    }
}
