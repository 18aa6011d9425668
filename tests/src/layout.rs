//! Where everything of one cluster is: folders, addresses and names.
//!
//! A cluster takes a slot, a small number from which all addresses follow, so that
//! clusters beside each other share nothing. The slot is written down before anything
//! is made; whatever happens later, the next command finds what belongs to the name.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use paperclip_test_programs::cache::lock;
pub use paperclip_test_programs::output as command_output;
use serde::{Deserialize, Serialize};

/// Clusters that can exist at once: slot numbers below this.
const SLOTS: u8 = 40;
/// Second byte of the addresses of slot 0: 10.200.0.0/16.
const FIRST_RANGE: u8 = 200;
/// Nodes of a cluster.
pub const NODES: u8 = 2;

/// Folder of the state of all clusters.
pub fn state_root() -> PathBuf {
    PathBuf::from("/var/lib/paperclip-test")
}

/// Takes a lock among the commands on clusters; it ends with the returned file.
pub fn state_lock(name: &str) -> Result<File> {
    let folder = state_root().join(".locks");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    lock(&folder.join(name))
}

/// One cluster's names and addresses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// The cluster's name.
    pub name: String,
    slot: u8,
}

/// One node's names and addresses.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name in Kubernetes.
    pub name: String,
    /// Network namespace and cgroup.
    pub namespace: String,
    /// End of the link that is on the bridge.
    pub link: String,
    /// Address on the bridge.
    pub address: Ipv4Addr,
    /// Range of its pods, `10.x.n.0/24`.
    pub pod_range: String,
    /// Folder of containerd and kubelet.
    pub dir: PathBuf,
}

impl Layout {
    /// The layout of an existing cluster.
    pub fn load(name: &str) -> Result<Option<Self>> {
        let file = state_root().join(name).join("layout.json");
        match fs::read(&file) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text)
                    .with_context(|| format!("parse {}", file.display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Takes a free slot for a new cluster and writes that down.
    pub fn claim(name: &str) -> Result<Self> {
        ensure!(
            is_valid_name(name),
            "the name {name:?} is not 1 to 20 lower-case letters, digits and dashes"
        );
        let _lock = state_lock("slots")?;
        if let Some(layout) = Self::load(name)? {
            return Ok(layout);
        }
        let taken: Vec<u8> = Self::all()?.iter().map(|layout| layout.slot).collect();
        let routes = command_output(Command::new("ip").args(["-4", "route"]))?;
        let is_free = |slot: &u8| {
            !taken.contains(slot) && !routes.contains(&format!("10.{}.", FIRST_RANGE + slot))
        };
        let Some(slot) = (0..SLOTS).find(is_free) else {
            bail!("no address range is free for another cluster: `cluster down` one of them");
        };
        let layout = Self {
            name: name.to_owned(),
            slot,
        };
        fs::create_dir_all(layout.dir())?;
        let unfinished = layout.dir().join("layout.json.new");
        fs::write(&unfinished, serde_json::to_vec(&layout)?)?;
        fs::rename(&unfinished, layout.dir().join("layout.json"))?;
        Ok(layout)
    }

    /// Every cluster on this machine.
    pub fn all() -> Result<Vec<Self>> {
        let Ok(entries) = fs::read_dir(state_root()) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            all.extend(Self::load(&name.to_string_lossy())?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Folder of the cluster's state.
    pub fn dir(&self) -> PathBuf {
        state_root().join(&self.name)
    }

    /// A path below the cluster's folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir().join(relative)
    }

    /// Kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// Audit log of the API server.
    pub fn audit_log(&self) -> PathBuf {
        self.path("audit/audit.log")
    }

    fn range(&self) -> u8 {
        FIRST_RANGE + self.slot
    }

    /// Name of the bridge that joins the nodes with this machine.
    pub fn bridge(&self) -> String {
        format!("pcp{}", self.slot)
    }

    /// This machine's address on the bridge: API server, registries, DNS.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.range(), 0, 1)
    }

    /// Loopback address of what pods must not reach: etcd, the npm registries themselves.
    pub fn loopback(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.range(), 1)
    }

    /// Range of Services.
    pub fn service_range(&self) -> String {
        format!("10.{}.128.0/20", self.range())
    }

    /// Range that holds all pods.
    pub fn pod_range(&self) -> String {
        format!("10.{}.0.0/20", self.range())
    }

    /// Address of the Service `kubernetes`.
    pub fn api_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.range(), 128, 1)
    }

    /// Address of the cluster's DNS.
    pub fn dns_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.range(), 128, 10)
    }

    /// Registry of the platform's images, `address:port`, as nodes and this machine know it.
    pub fn image_registry(&self) -> String {
        format!("{}:5000", self.gateway())
    }

    /// URL of the API server.
    pub fn api_server(&self) -> String {
        format!("https://{}:6443", self.gateway())
    }

    /// The nodes.
    pub fn nodes(&self) -> Vec<Node> {
        (1..=NODES)
            .map(|number| Node {
                name: format!("node-{number}"),
                namespace: format!("pcp-{}-{number}", self.name),
                link: format!("pcp{}n{number}", self.slot),
                address: Ipv4Addr::new(10, self.range(), 0, 10 + number),
                pod_range: format!("10.{}.{number}.0/24", self.range()),
                dir: self.path(format!("node-{number}")),
            })
            .collect()
    }
}

fn is_valid_name(name: &str) -> bool {
    (1..=20).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slots_share_no_address() {
        let a = Layout {
            name: "a".into(),
            slot: 0,
        };
        let b = Layout {
            name: "b".into(),
            slot: 1,
        };
        assert_ne!(a.gateway(), b.gateway());
        assert_ne!(a.loopback(), b.loopback());
        assert_ne!(a.service_range(), b.service_range());
        assert_ne!(a.bridge(), b.bridge());
    }

    #[test]
    fn services_and_pods_do_not_overlap() {
        let layout = Layout {
            name: "a".into(),
            slot: 3,
        };
        assert_eq!(layout.pod_range(), "10.203.0.0/20");
        assert_eq!(layout.service_range(), "10.203.128.0/20");
        assert!(
            layout
                .nodes()
                .iter()
                .all(|node| node.pod_range.starts_with("10.203."))
        );
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        assert!(is_valid_name("gate-123"));
        assert!(!is_valid_name("../etc"));
        assert!(!is_valid_name(""));
    }

    #[test]
    fn interface_names_fit_the_kernel_limit() {
        let layout = Layout {
            name: "a".repeat(20),
            slot: 39,
        };
        assert!(layout.bridge().len() <= 15);
        assert!(layout.nodes().iter().all(|node| node.link.len() <= 15));
    }
}
