//! What is in a cluster: every object of every kind that can be listed, by name.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::{
    Cluster, control_plane,
    layout::{Layout, Node},
};

/// Kinds that come and go by themselves.
const TRANSIENT: [&str; 2] = ["events", "events.events.k8s.io"];

/// File that `cluster install` keeps the inventory of before the first installation in.
const BEFORE_INSTALLATION: &str = "inventory-before-installation";

/// Objects as `Kind namespace/name`; those of the cluster as `Kind name`.
pub type Inventory = BTreeSet<String>;

/// The objects of these kinds.
fn objects(layout: &Layout, kinds: &str) -> Result<Inventory> {
    let each = r#"{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
    let format = format!("-o=jsonpath={each}");
    let arguments = ["get", kinds, "-A", "--ignore-not-found", &format];
    let listed = control_plane::kubectl(layout, &arguments)?;
    // Objects of the cluster have no namespace.
    let lines = listed.lines().map(|line| line.replacen(" /", " ", 1));
    Ok(lines.collect())
}

/// Fails while something is missing that components of the cluster make by themselves some time
/// after they have begun. Whoever compares two inventories needs it in both.
///
/// # Errors
/// When the API server cannot be asked; when something is missing, with its names.
pub fn is_settled(layout: &Layout) -> Result<()> {
    let kinds = "namespaces,leases,csinodes,serviceaccounts,configmaps,endpointslices,ipaddresses";
    let missing = missing(&objects(layout, kinds)?, &layout.nodes());
    ensure!(missing.is_empty(), "not there yet: {}", missing.join(", "));
    Ok(())
}

/// What every cluster has, once it is settled, and this one has not.
fn missing(inventory: &Inventory, nodes: &[Node]) -> Vec<String> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
    let of_namespaces = namespaces.iter().flat_map(|namespace| {
        [
            format!("Namespace {namespace}"),
            format!("ServiceAccount {namespace}/default"),
            format!("ConfigMap {namespace}/kube-root-ca.crt"),
        ]
    });
    let of_nodes = nodes.iter().flat_map(|node| {
        [
            format!("Lease kube-node-lease/{}", node.name),
            format!("CSINode {}", node.name),
        ]
    });
    // Of the API server itself, under names that are not known before.
    let others = [
        "Lease kube-system/apiserver-",
        "EndpointSlice default/kubernetes",
        "IPAddress ",
    ];
    let others = others.map(str::to_owned);
    let is_missing = |wanted: &String| !inventory.iter().any(|object| object.starts_with(wanted));
    of_namespaces
        .chain(of_nodes)
        .chain(others)
        .filter(is_missing)
        .collect()
}

impl Cluster {
    /// Every object, of every kind that discovery tells.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub fn inventory(&self) -> Result<Inventory> {
        objects(&self.layout, &self.listable_kinds()?.join(","))
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

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, path::PathBuf};

    use super::*;

    fn node() -> Node {
        Node {
            name: "node-1".into(),
            namespace: String::new(),
            link: String::new(),
            address: Ipv4Addr::LOCALHOST,
            pod_range: String::new(),
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn a_young_cluster_lacks_the_leases_of_its_nodes() {
        let all = missing(&Inventory::new(), &[node()]);
        assert_eq!(all.len(), 4 * 3 + 2 + 3);
        let settled: Inventory = all.iter().cloned().collect();
        assert_eq!(missing(&settled, &[node()]), Vec::<String>::new());
        let lease = "Lease kube-node-lease/node-1";
        let young = settled
            .into_iter()
            .filter(|object| object != lease)
            .collect();
        assert_eq!(missing(&young, &[node()]), [lease]);
    }
}
