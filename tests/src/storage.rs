//! Volumes of the class `shared`: folders of this machine, which both nodes see.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::Result;
use serde_json::json;

use crate::layout::Layout;

/// Volumes of a cluster. A volume is used once in a cluster's life.
const VOLUMES: u8 = 24;

/// Makes the folders, empty, and returns the volumes as YAML documents.
pub fn volumes(layout: &Layout) -> Result<String> {
    let mut documents = String::new();
    for number in 1..=VOLUMES {
        let folder = layout.path(format!("volumes/{number:02}"));
        fs::create_dir_all(&folder)?;
        // Pods run under any user, and none may own the folder.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": format!("shared-{number:02}")},
            "spec": {
                "storageClassName": "shared",
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": folder, "type": "Directory"},
            },
        });
        documents.push_str(&format!("---\n{volume}\n"));
    }
    Ok(documents)
}
