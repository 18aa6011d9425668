//! Pods of plugins and of packing Jobs, and what plugin pods say of themselves.
//!
//! One watch keeps the pods; each live plugin pod has one `WatchStatus` stream, which
//! starts with the sidecar and ends with the pod. Both wake the plugins they concern.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use paperclip_crds::{labels, v1alpha1::PaperclipPlugin};
use paperclip_proto::{
    client::watch_status, identity::Identity, tls::ClientTls, v1::WatchStatusResponse,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Port of the sidecar's gRPC server.
const GRPC_PORT: u16 = 8443;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Who is woken when a pod changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// The plugin whose pod it is.
    Plugin(ObjectRef<PaperclipPlugin>),
    /// Every plugin of this package: the pod packs it.
    Package(String),
}

/// All pods of ours, by UID.
pub struct Pods {
    all: Mutex<BTreeMap<String, Entry>>,
    tls: RwLock<ClientTls>,
}

struct Entry {
    pod: Arc<Pod>,
    status: Option<WatchStatusResponse>,
    /// Ends the stream when the entry goes.
    stream: Option<DropGuard>,
    stale: bool,
}

/// A pod and the last thing it said.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The last thing it said, if its stream is open.
    pub status: Option<WatchStatusResponse>,
}

impl Pods {
    /// No pods yet; streams are opened with this certificate.
    #[must_use]
    pub fn new(tls: ClientTls) -> Self {
        Self {
            all: Mutex::default(),
            tls: RwLock::new(tls),
        }
    }

    /// Opens later streams with this certificate.
    pub fn use_tls(&self, tls: ClientTls) {
        if let Ok(mut current) = self.tls.write() {
            *current = tls;
        }
    }

    /// Pods of a plugin.
    #[must_use]
    pub fn of_plugin(&self, uid: &str) -> Vec<Seen> {
        self.select(|pod| {
            pod.labels()
                .get(labels::PLUGIN_UID)
                .is_some_and(|found| found == uid)
        })
    }

    /// Pods of a Job.
    #[must_use]
    pub fn of_job(&self, namespace: &str, name: &str) -> Vec<Seen> {
        self.select(|pod| {
            pod.namespace().as_deref() == Some(namespace)
                && pod
                    .labels()
                    .get("batch.kubernetes.io/job-name")
                    .is_some_and(|found| found == name)
        })
    }

    fn select(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<Seen> {
        let Ok(all) = self.all.lock() else {
            return Vec::new();
        };
        all.values()
            .filter(|entry| wanted(&entry.pod))
            .map(|entry| Seen {
                pod: entry.pod.clone(),
                status: entry.status.clone(),
            })
            .collect()
    }

    /// Takes in one event of the watch and says who is concerned.
    pub fn observe(self: &Arc<Self>, event: Event<Pod>, wake: &mpsc::UnboundedSender<Wakes>) {
        match event {
            Event::Init => self.mark_stale(),
            Event::InitDone => self.drop_stale(wake),
            Event::InitApply(pod) | Event::Apply(pod) => self.put(pod, wake),
            Event::Delete(pod) => {
                if let Ok(mut all) = self.all.lock() {
                    all.remove(&pod.uid().unwrap_or_default());
                }
                tell(&pod, wake);
            }
        }
    }

    fn mark_stale(&self) {
        if let Ok(mut all) = self.all.lock() {
            all.values_mut().for_each(|entry| entry.stale = true);
        }
    }

    fn drop_stale(&self, wake: &mpsc::UnboundedSender<Wakes>) {
        if let Ok(mut all) = self.all.lock() {
            all.retain(|_, entry| {
                if entry.stale {
                    tell(&entry.pod, wake);
                }
                !entry.stale
            });
        }
    }

    fn put(self: &Arc<Self>, pod: Pod, wake: &mpsc::UnboundedSender<Wakes>) {
        let uid = pod.uid().unwrap_or_default();
        tell(&pod, wake);
        let Ok(mut all) = self.all.lock() else {
            return;
        };
        let pod = Arc::new(pod);
        let address = stream_address(&pod);
        let entry = all.entry(uid.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            status: None,
            stream: None,
            stale: false,
        });
        entry.pod = pod.clone();
        entry.stale = false;
        match (address, plugin_identity(&pod)) {
            (Some(address), Some(plugin)) if entry.stream.is_none() => {
                let stop = CancellationToken::new();
                entry.stream = Some(stop.clone().drop_guard());
                let stream = Stream {
                    pods: self.clone(),
                    uid,
                    pod,
                    address,
                    plugin,
                    wake: wake.clone(),
                };
                tokio::spawn(async move { stop.run_until_cancelled(stream.follow()).await });
            }
            (None, _) => {
                entry.stream = None;
                entry.status = None;
            }
            _ => {}
        }
    }

    fn set_status(&self, uid: &str, status: Option<WatchStatusResponse>) -> bool {
        let Ok(mut all) = self.all.lock() else {
            return false;
        };
        let Some(entry) = all.get_mut(uid) else {
            return false;
        };
        let changed = entry.status != status;
        entry.status = status;
        changed
    }
}

/// One plugin pod's stream of states.
struct Stream {
    pods: Arc<Pods>,
    uid: String,
    pod: Arc<Pod>,
    address: SocketAddr,
    plugin: Identity,
    wake: mpsc::UnboundedSender<Wakes>,
}

impl Stream {
    async fn follow(self) {
        let mut wait = FIRST_RETRY;
        loop {
            let Some(tls) = self.pods.tls.read().ok().map(|tls| tls.clone()) else {
                return;
            };
            match watch_status(self.address, &tls, &self.plugin).await {
                Ok(mut states) => {
                    wait = FIRST_RETRY;
                    while let Ok(Some(state)) = states.message().await {
                        self.note(Some(state));
                    }
                    self.note(None);
                }
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "no state of a plugin pod yet");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    fn note(&self, state: Option<WatchStatusResponse>) {
        if self.pods.set_status(&self.uid, state) {
            tell(&self.pod, &self.wake);
        }
    }
}

fn tell(pod: &Pod, wake: &mpsc::UnboundedSender<Wakes>) {
    if let Some(wakes) = wakes(pod) {
        // The receiver is gone only while the operator stops.
        let _ = wake.send(wakes);
    }
}

fn wakes(pod: &Pod) -> Option<Wakes> {
    if let Some(plugin) = pod.labels().get(labels::PLUGIN) {
        return Some(Wakes::Plugin(
            ObjectRef::new(plugin).within(&pod.namespace()?),
        ));
    }
    pod.annotations()
        .get(labels::PACKAGE)
        .cloned()
        .map(Wakes::Package)
}

fn plugin_identity(pod: &Pod) -> Option<Identity> {
    Some(Identity::Plugin {
        namespace: pod.namespace()?,
        name: pod.labels().get(labels::PLUGIN)?.clone(),
    })
}

/// Where the sidecar listens, once it runs.
fn stream_address(pod: &Pod) -> Option<SocketAddr> {
    let status = pod.status.as_ref()?;
    let runs = status
        .init_container_statuses
        .iter()
        .flatten()
        .any(|container| {
            container.name == "sidecar"
                && container
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
        });
    let address = status.pod_ip.as_ref()?.parse().ok()?;
    runs.then(|| SocketAddr::new(address, GRPC_PORT))
}
