//! The config that the operator hands over: a file in a mounted Secret, read again when the
//! kubelet swaps the folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use paperclip_proto::config::{ActivationConfig, DeliveredConfig, FILE_NAME};
use tokio::sync::watch;

/// How often the folder is looked at. Reading one small file costs microseconds.
const EVERY: Duration = Duration::from_millis(500);

/// Follows the config of an activation. Without a folder there is none and never will be.
pub fn follow(folder: Option<PathBuf>, activation: u64) -> watch::Receiver<ActivationConfig> {
    let Some(folder) = folder else {
        // The sender is gone: nobody waits for a change that cannot come.
        return watch::channel(ActivationConfig::default()).1;
    };
    let first = read(&folder, activation).unwrap_or_default();
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            // Half a swap, or a mistake: what is in force stays.
            if let Ok(now) = read(&folder, activation) {
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

fn read(folder: &Path, activation: u64) -> io::Result<ActivationConfig> {
    let bytes = fs::read(folder.join(FILE_NAME))?;
    let mut delivered: DeliveredConfig = serde_json::from_slice(&bytes).map_err(|error| {
        // The parser's words may quote a secret, so only its place is told.
        tracing::error!(
            line = error.line(),
            column = error.column(),
            "the delivered config cannot be read"
        );
        io::Error::from(io::ErrorKind::InvalidData)
    })?;
    Ok(delivered
        .activations
        .remove(&activation)
        .unwrap_or_default())
}
