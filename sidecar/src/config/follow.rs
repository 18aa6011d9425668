//! The config and the limits that the operator hands over: a file in a mounted Secret, read again when the
//! kubelet swaps the folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use paperclip_bridge::config::{ActivationConfig, DeliveredConfig, FILE_NAME};
use paperclip_protocol::limits::Limits;
use tokio::sync::watch;

use crate::limits::Gate;

/// How often the folder is looked at. Reading one small file costs microseconds.
const EVERY: Duration = Duration::from_millis(500);

/// Follows the config of an activation, and hands limits to the gate. Without a folder there is
/// none and never will be.
pub fn follow(
    folder: Option<PathBuf>,
    activation: u64,
    gate: Arc<Gate>,
) -> watch::Receiver<ActivationConfig> {
    let Some(folder) = folder else {
        // The sender is gone: nobody waits for a change that cannot come.
        return watch::channel(ActivationConfig::default()).1;
    };
    let (config, limits) = read(&folder, activation).unwrap_or_default();
    adopt(&gate, limits);
    let (sender, receiver) = watch::channel(config);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            // Half a swap, or a mistake: what is in force stays.
            if let Ok((now, limits)) = read(&folder, activation) {
                adopt(&gate, limits);
                sender.send_if_modified(|known| {
                    let is_new = *known != now;
                    *known = now;
                    is_new
                });
            }
        }
    });
    receiver
}

fn adopt(gate: &Arc<Gate>, limits: Limits) {
    if gate.limits() != limits {
        gate.set(limits);
        tracing::info!(?limits, "limits changed");
    }
}

fn read(folder: &Path, activation: u64) -> io::Result<(ActivationConfig, Limits)> {
    let bytes = fs::read(folder.join(FILE_NAME))?;
    let mut delivered: DeliveredConfig = serde_json::from_slice(&bytes).map_err(|error| {
        // The parser's words may quote a secret, so only its place is logged.
        tracing::error!(
            line = error.line(),
            column = error.column(),
            "the delivered config cannot be read"
        );
        io::Error::from(io::ErrorKind::InvalidData)
    })?;
    let config = delivered.activations.remove(&activation);
    Ok((config.unwrap_or_default(), delivered.limits))
}
