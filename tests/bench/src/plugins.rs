//! Plugins on a cluster for benchmarks: published, applied, and called through the host.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::wait::await_condition,
};
use paperclip_tests::{
    Cluster,
    platform::{HOST, HOST_NAMESPACE, repository},
};
use serde_json::{Value, json};

use crate::load::Caller;

/// The package that the plugins are made from, in `tests/plugins`.
const SOURCE: &str = "load";
const FILES: [&str; 3] = ["package.json", "manifest.js", "worker.js"];
const VERSION: &str = "1.0.0";
/// Longest wait for a plugin to become Ready.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest wait for an answer of the host.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A namespace with plugins that one host serves.
pub struct Plugins<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    api: Api<DynamicObject>,
}

impl<'a> Plugins<'a> {
    /// An empty namespace.
    pub async fn new(cluster: &'a Cluster, namespace: &'static str) -> Result<Self> {
        let wait = ["--ignore-not-found", "--wait"];
        cluster.kubectl(&[&["delete", "namespace", namespace], &wait[..]].concat())?;
        cluster.kubectl(&["create", "namespace", namespace])?;
        let level = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", namespace, level])?;
        let kind = GroupVersionKind::gvk("plugins.paperclip.ing", "v1alpha1", "PaperclipPlugin");
        let resource = ApiResource::from_gvk(&kind);
        let client: Client = cluster.client().await?;
        Ok(Self {
            cluster,
            namespace,
            api: Api::namespaced_with(client, namespace, &resource),
        })
    }

    /// Publishes a package of this plugin's own, applies the plugin and waits until it is Ready.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.publish(name)?;
        let plugin = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "source": {"npm": {"package": package(name), "version": VERSION}},
                "host": {"name": HOST, "namespace": HOST_NAMESPACE},
            },
        });
        let plugin = serde_json::from_value(plugin)?;
        self.api
            .create(&PostParams::default(), &plugin)
            .await
            .with_context(|| format!("create the plugin {name}"))?;
        self.ready(name).await
    }

    /// Waits until a plugin is Ready.
    pub async fn ready(&self, name: &str) -> Result<()> {
        let is_ready = |plugin: Option<&DynamicObject>| {
            let conditions = plugin.into_iter().flat_map(conditions);
            conditions
                .filter(|found| found["type"] == "Ready")
                .any(|found| found["status"] == "True")
        };
        let ready = await_condition(self.api.clone(), name, is_ready);
        tokio::time::timeout(PATIENCE, ready)
            .await
            .with_context(|| format!("wait until {name} is Ready"))??;
        Ok(())
    }

    /// The plugin as the API server has it now.
    pub async fn get(&self, name: &str) -> Result<DynamicObject> {
        let plugin = self.api.get(name).await;
        plugin.with_context(|| format!("read the plugin {name}"))
    }

    /// UIDs and nodes of a plugin's pods.
    pub fn pods(&self, name: &str) -> Result<Vec<(String, String)>> {
        let selector = format!("plugins.paperclip.ing/plugin={name}");
        let pods = ["get", "pods", "-o", "json", "-n", self.namespace];
        let list = self
            .cluster
            .kubectl(&[&pods[..], &["-l", &selector]].concat())?;
        placed(&serde_json::from_str(&list)?)
    }

    /// Deletes a plugin's pods and waits until they are gone; others take their place.
    pub fn delete_pods(&self, name: &str) -> Result<()> {
        let selector = format!("plugins.paperclip.ing/plugin={name}");
        let pods = ["delete", "pods", "--wait", "-n", self.namespace, "-l"];
        let deleted = self.cluster.kubectl(&[&pods[..], &[&selector]].concat());
        deleted.map(drop)
    }

    /// A way to call a tool of a plugin.
    pub fn tool(&self, host: &Host, plugin: &str, tool: &'static str) -> Tool {
        Tool {
            host: host.clone(),
            name: format!("{}:{tool}", id(plugin)).into(),
        }
    }

    fn publish(&self, name: &str) -> Result<()> {
        let source = repository().join("tests/plugins").join(SOURCE);
        let folder = tempfile::tempdir()?;
        for file in FILES {
            let text =
                fs::read_to_string(source.join(file)).with_context(|| format!("read {file}"))?;
            let text = text
                .replace(&package(SOURCE), &package(name))
                .replace(&format!("\"{}\"", id(SOURCE)), &format!("\"{}\"", id(name)));
            fs::write(folder.path().join(file), text)?;
        }
        let published = self.cluster.npm().publish(folder.path());
        published.with_context(|| format!("publish {}", package(name)))
    }
}

impl Drop for Plugins<'_> {
    fn drop(&mut self) {
        // Plugins first, so that their ids are free for others before the pods are gone.
        let plugins = ["delete", "paperclipplugins", "--all", "-n", self.namespace];
        let _ = self.cluster.kubectl(&plugins);
        let namespace = ["delete", "namespace", self.namespace, "--wait=false"];
        let _ = self.cluster.kubectl(&namespace);
    }
}

fn package(name: &str) -> String {
    format!("paperclip-plugin-bench-{name}")
}

fn id(name: &str) -> String {
    format!("bench.{name}")
}

/// The conditions in an object's status.
pub fn conditions(object: &DynamicObject) -> impl Iterator<Item = &Value> {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten()
}

/// UID and node of each pod in a list.
fn placed(list: &Value) -> Result<Vec<(String, String)>> {
    let text = |pod: &Value, pointer: &str| {
        let text = pod.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned)
            .with_context(|| format!("a pod has {pointer}"))
    };
    let pods = list["items"].as_array().into_iter().flatten();
    pods.map(|pod| Ok((text(pod, "/metadata/uid")?, text(pod, "/spec/nodeName")?)))
        .collect()
}

/// The host, as those who call its plugins reach it.
#[derive(Clone)]
pub struct Host {
    client: reqwest::Client,
    url: Arc<str>,
    token: Arc<str>,
}

impl Host {
    /// The host of the platform's installation, by the address of its pod.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let host = [
            "get",
            "papercliphost",
            HOST,
            "-o",
            "json",
            "-n",
            HOST_NAMESPACE,
        ];
        let host: Value = serde_json::from_str(&cluster.kubectl(&host)?)?;
        let service = host["spec"]["service"]["name"]
            .as_str()
            .context("the host names its Service")?;
        let selector = format!("kubernetes.io/service-name={service}");
        let slices = ["get", "endpointslices", "-o", "json", "-n", HOST_NAMESPACE];
        let slices = cluster.kubectl(&[&slices[..], &["-l", &selector]].concat())?;
        let slices: Value = serde_json::from_str(&slices)?;
        let address = slices["items"][0]["endpoints"][0]["addresses"][0]
            .as_str()
            .context("the host has an address")?;
        let account = format!("{HOST}-client");
        let token = cluster.kubectl(&["create", "token", &account, "-n", HOST_NAMESPACE])?;
        Ok(Self {
            client: reqwest::Client::builder().timeout(GIVE_UP).build()?,
            url: format!("http://{address}:3100/api/plugins/tools/execute").into(),
            token: token.trim().into(),
        })
    }

    /// Node of the host's pod.
    pub fn node(cluster: &Cluster) -> Result<String> {
        let selector = "app.kubernetes.io/name=paperclip-host";
        let pods = [
            "get",
            "pods",
            "-o",
            "json",
            "-n",
            HOST_NAMESPACE,
            "-l",
            selector,
        ];
        let list = serde_json::from_str(&cluster.kubectl(&pods)?)?;
        let pods = placed(&list)?;
        ensure!(
            pods.len() == 1,
            "the host has {} pods, wanted 1",
            pods.len()
        );
        Ok(pods.into_iter().map(|(_, node)| node).collect())
    }
}

/// A tool of a plugin, called through the host.
#[derive(Clone)]
pub struct Tool {
    host: Host,
    name: Arc<str>,
}

impl Caller for Tool {
    async fn answer(&self, params: Bytes) -> Result<Bytes> {
        let parameters: Value = serde_json::from_slice(&params)?;
        let request = self.host.client.post(&*self.host.url);
        let response = request
            .bearer_auth(&self.host.token)
            .json(&json!({"tool": &*self.name, "parameters": parameters}))
            .send()
            .await?;
        let (status, body) = (response.status(), response.bytes().await?);
        ensure!(
            status.is_success(),
            "the host answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

/// Waits until a call of a plugin's tool succeeds: Ready may be ahead of the host's own view.
pub async fn answers(tool: &Tool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(error) = tool.answer(Bytes::from_static(b"{}")).await else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(error.context("wait until the plugin answers"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
