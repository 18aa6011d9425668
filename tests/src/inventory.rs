//! What is in a cluster: every object of every kind that can be listed, by name.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::Cluster;

/// Kinds that come and go by themselves.
const TRANSIENT: [&str; 2] = ["events", "events.events.k8s.io"];

/// File that `cluster install` keeps the inventory of before the first installation in.
const BEFORE_INSTALLATION: &str = "inventory-before-installation";

/// Objects as `Kind namespace/name`; those of the cluster as `Kind name`.
pub type Inventory = BTreeSet<String>;

impl Cluster {
    /// Every object, of every kind that discovery tells.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub fn inventory(&self) -> Result<Inventory> {
        let kinds = self.listable_kinds()?.join(",");
        let each = r#"{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
        let format = format!("-o=jsonpath={each}");
        let listed = self.kubectl(&["get", &kinds, "-A", "--ignore-not-found", &format])?;
        // Objects of the cluster have no namespace.
        Ok(listed
            .lines()
            .map(|line| line.replacen(" /", " ", 1))
            .collect())
    }

    /// Kinds that can be listed, as `plural.group`, without those that come and go by themselves.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub fn listable_kinds(&self) -> Result<Vec<String>> {
        let kinds = self.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
        let lasting = kinds.lines().filter(|kind| !TRANSIENT.contains(kind));
        Ok(lasting.map(str::to_owned).collect())
    }

    /// The inventory of before the platform was installed for the first time.
    ///
    /// # Errors
    /// When it was never installed by `cluster install`.
    pub fn inventory_before_installation(&self) -> Result<Inventory> {
        let file = self.dir().join(BEFORE_INSTALLATION);
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Keeps the inventory, unless one is kept.
    ///
    /// # Errors
    /// When the API server cannot be asked or the file cannot be written.
    pub fn keep_inventory(&self) -> Result<()> {
        let file = self.dir().join(BEFORE_INSTALLATION);
        if file.exists() {
            return Ok(());
        }
        let lines: Vec<String> = self.inventory()?.into_iter().collect();
        std::fs::write(&file, lines.join("\n")).with_context(|| format!("write {}", file.display()))
    }
}
