//! Installs the three charts into a cluster, as a person would with Helm.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{Cluster, programs};

/// Namespace of the platform's release.
pub const PLATFORM_NAMESPACE: &str = "paperclip-system";
/// Namespace of the host's release.
pub const HOST_NAMESPACE: &str = "paperclip";
/// Release, and so name, of the host.
pub const HOST: &str = "main";

/// Where the charts go and what they are told.
pub struct Installation {
    /// The Helm program.
    pub helm: PathBuf,
    /// The kubectl program.
    pub kubectl: PathBuf,
    /// Kubeconfig of the cluster.
    pub kubeconfig: PathBuf,
    /// Registry that holds the platform's images, host and port.
    pub image_registry: String,
    /// Tag of the images.
    pub image_tag: String,
    /// npm registry that packing Jobs ask.
    pub npm_registry: String,
    /// Storage class of the volumes. Empty for the cluster's default.
    pub storage_class: String,
    /// CIDRs that plugins may reach through the host's `http.fetch` though they are private.
    pub allowed_cidrs: Vec<String>,
}

impl Installation {
    /// The installation of a test cluster, with the images last pushed and all its own.
    ///
    /// # Errors
    /// When Helm or kubectl cannot be built, or no images were pushed.
    pub fn on(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            helm: programs::helm()?,
            kubectl: cluster.kubectl_path().to_owned(),
            kubeconfig: cluster.kubeconfig(),
            image_registry: cluster.registry(),
            image_tag: cluster.image_tag()?,
            npm_registry: cluster.npm().url_in_cluster(),
            storage_class: "shared".into(),
            allowed_cidrs: Vec::new(),
        })
    }

    /// Installs or upgrades the charts and waits until each is ready. Pod Security
    /// `restricted` is enforced on both namespaces.
    ///
    /// # Errors
    /// When Helm or kubectl fails; the error holds what they printed.
    pub async fn apply(&self) -> Result<()> {
        for namespace in [PLATFORM_NAMESPACE, HOST_NAMESPACE] {
            self.restricted_namespace(namespace).await?;
        }
        let charts = repository().join("charts");
        eprintln!("helm: CRDs");
        self.upgrade(
            "paperclip-crds",
            PLATFORM_NAMESPACE,
            &charts.join("paperclip-crds"),
            &[],
        )
        .await?;
        eprintln!("helm: platform (operator, artifact store)");
        self.upgrade(
            "paperclip",
            PLATFORM_NAMESPACE,
            &charts.join("paperclip-platform"),
            &[
                format!("global.imageRegistry={}", self.image_registry),
                format!("image.tag={}", self.image_tag),
                format!("npm.registry={}", self.npm_registry),
                format!("store.persistence.storageClass={}", self.storage_class),
            ],
        )
        .await?;
        eprintln!("helm: host");
        let mut values = vec![
            format!("global.imageRegistry={}", self.image_registry),
            format!("image.tag={}", self.image_tag),
            format!("persistence.storageClass={}", self.storage_class),
            "allowedNamespaces.from=All".to_owned(),
        ];
        for (index, cidr) in self.allowed_cidrs.iter().enumerate() {
            values.push(format!("httpFetch.allowCidrs[{index}]={cidr}"));
        }
        self.upgrade(
            HOST,
            HOST_NAMESPACE,
            &charts.join("paperclip-host"),
            &values,
        )
        .await
    }

    async fn upgrade(
        &self,
        release: &str,
        namespace: &str,
        chart: &Path,
        values: &[String],
    ) -> Result<()> {
        let mut command = Command::new(&self.helm);
        command
            .args(["upgrade", "--install", release])
            .arg(chart)
            .args(["--namespace", namespace, "--wait", "--timeout", "5m"])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        for value in values {
            command.args(["--set-string", value]);
        }
        run(&mut command).await
    }

    async fn restricted_namespace(&self, name: &str) -> Result<()> {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        });
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest.to_string())?;
        let mut command = Command::new(&self.kubectl);
        command
            .args([
                "apply",
                "--server-side",
                "--field-manager=paperclip-install",
                "-f",
            ])
            .arg(file.path())
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        run(&mut command).await
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .await
        .with_context(|| format!("start {:?}", command.as_std()))?;
    ensure!(
        output.status.success(),
        "{:?} ended with {}\n{}{}",
        command.as_std(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Root of this repository: of the checkout that cargo runs us from, else of the one we
/// were built in.
#[must_use]
pub fn repository() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own.filter(|folder| folder.join("cluster").is_dir());
    own.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
        .join("..")
}
