//! The registry of platform images: the CNCF registry, plain HTTP, on the bridge.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    layout::Layout,
    process::{Daemon, PATIENCE, eventually, log_tail},
    programs, wire,
};

/// Starts it.
pub fn start(layout: &Layout) -> Result<()> {
    let config = serde_json::json!({
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": layout.path("registry")},
            "delete": {"enabled": true},
        },
        "http": {"addr": layout.image_registry(), "secret": "only one replica"},
    });
    let file = layout.path("registry.yaml");
    fs::write(&file, config.to_string())?;
    Daemon::new("registry", programs::registry()?)
        .args(["serve".into(), file.into_os_string()])
        .start(layout)?;
    eventually("the image registry", PATIENCE, || {
        wire::get(&format!("http://{}/v2/", layout.image_registry())).map(drop)
    })
    .with_context(|| log_tail(layout, "registry"))
}
