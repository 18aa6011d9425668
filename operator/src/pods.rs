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
use paperclip_bridge::{client::watch_status, tls::ClientTls, v1::WatchStatusResponse};
use paperclip_crds::{labels, v1alpha1::PaperclipPlugin};
use paperclip_identity::Identity;
use paperclip_pod_layout::{container, port};
use tokio::sync::{mpsc, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Longest wait of a reconcile for the first status of a pod.
const PATIENCE: Duration = Duration::from_secs(2);

/// Receiver of the news that a pod changed.
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
    /// Whether the first list of pods is complete; sent again when a pod was heard first.
    listed: watch::Sender<bool>,
    streams: TaskTracker,
}

struct Entry {
    pod: Arc<Pod>,
    status: Option<WatchStatusResponse>,
    /// Ends the stream when the entry goes.
    stream: Option<DropGuard>,
    /// The stream was opened once, or could not be.
    heard: bool,
    stale: bool,
}

/// A pod and the last thing it said.
#[derive(Clone, Debug)]
pub struct ObservedPod {
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
            listed: watch::Sender::new(false),
            streams: TaskTracker::new(),
        }
    }

    /// Opens later streams with this certificate.
    pub fn use_tls(&self, tls: ClientTls) {
        if let Ok(mut current) = self.tls.write() {
            *current = tls;
        }
    }

    /// Waits until a plugin's pods are known and each was asked once, so that the first
    /// pass after a start of the operator does not call a working plugin broken.
    pub async fn settled(&self, uid: &str) {
        let mut listed = self.listed.subscribe();
        let settled = listed.wait_for(|listed| *listed && self.all_heard(uid));
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            tracing::debug!(uid, "a pod of the plugin says nothing");
        }
    }

    /// Whether the first list of pods is complete.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        *self.listed.borrow()
    }

    fn all_heard(&self, uid: &str) -> bool {
        let Ok(all) = self.all.lock() else {
            return true;
        };
        all.values()
            .filter(|entry| is_of(&entry.pod, uid))
            .all(|entry| entry.stream.is_none() || entry.heard)
    }

    /// Pods of a plugin.
    #[must_use]
    pub fn of_plugin(&self, uid: &str) -> Vec<ObservedPod> {
        self.select(|pod| is_of(pod, uid))
    }

    /// Pods of a Job.
    #[must_use]
    pub fn of_job(&self, namespace: &str, name: &str) -> Vec<ObservedPod> {
        self.select(|pod| {
            pod.namespace().as_deref() == Some(namespace)
                && pod
                    .labels()
                    .get("batch.kubernetes.io/job-name")
                    .is_some_and(|found| found == name)
        })
    }

    fn select(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<ObservedPod> {
        let Ok(all) = self.all.lock() else {
            return Vec::new();
        };
        all.values()
            .filter(|entry| wanted(&entry.pod))
            .map(|entry| ObservedPod {
                pod: entry.pod.clone(),
                status: entry.status.clone(),
            })
            .collect()
    }

    /// Takes in one event of the watch and says who is concerned.
    pub fn observe(self: &Arc<Self>, event: Event<Pod>, wake: &mpsc::UnboundedSender<Wakes>) {
        match event {
            Event::Init => self.mark_stale(),
            Event::InitDone => {
                self.drop_stale(wake);
                self.listed.send_replace(true);
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.put(pod, wake),
            Event::Delete(pod) => {
                if let (Some(uid), Ok(mut all)) = (&pod.metadata.uid, self.all.lock()) {
                    all.remove(uid);
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
        tell(&pod, wake);
        // Each object of the API server has one.
        let (Some(uid), Ok(mut all)) = (pod.uid(), self.all.lock()) else {
            return;
        };
        let pod = Arc::new(pod);
        let address = stream_address(&pod);
        let entry = all.entry(uid.clone()).or_insert_with(|| Entry {
            pod: pod.clone(),
            status: None,
            stream: None,
            heard: false,
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
                self.streams
                    .spawn(async move { stop.run_until_cancelled(stream.follow()).await });
            }
            (None, _) => {
                entry.stream = None;
                entry.status = None;
                entry.heard = false;
            }
            _ => {}
        }
    }

    /// Takes in a pod with the status that its sidecar reports.
    pub fn said(self: &Arc<Self>, pod: Pod, status: WatchStatusResponse) {
        let uid = pod.uid();
        let (wake, _) = mpsc::unbounded_channel();
        self.observe(Event::Apply(pod), &wake);
        if let Some(uid) = uid {
            self.set_status(&uid, Some(status));
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
        let first = !std::mem::replace(&mut entry.heard, true);
        drop(all);
        if first {
            self.listed.send_modify(|_| {});
        }
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
                }
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "no state of a plugin pod yet");
                }
            }
            self.note(None);
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

fn is_of(pod: &Pod, uid: &str) -> bool {
    pod.labels()
        .get(labels::PLUGIN_UID)
        .is_some_and(|found| found == uid)
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

/// Address of the sidecar, once that runs.
fn stream_address(pod: &Pod) -> Option<SocketAddr> {
    let status = pod.status.as_ref()?;
    let runs = status
        .init_container_statuses
        .iter()
        .flatten()
        .any(|container| {
            container.name == container::SIDECAR
                && container
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
        });
    let address = status.pod_ip.as_ref()?.parse().ok()?;
    runs.then(|| SocketAddr::new(address, port::GRPC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::own_tls;
    use paperclip_identity_issue::Authority;
    use paperclip_testkit::fixtures;
    use time::OffsetDateTime;

    /// Pods of which one runs its sidecar, so that its stream is being opened.
    fn with_stream() -> (Arc<Pods>, mpsc::UnboundedSender<Wakes>) {
        let authority = Authority::generate(OffsetDateTime::now_utc()).unwrap();
        let authority = Authority::load(&authority).unwrap();
        let (wake, _) = mpsc::unbounded_channel();
        let pods = Arc::new(Pods::new(own_tls(&authority).unwrap()));
        pods.observe(Event::Apply(fixtures::serving_pod()), &wake);
        assert_eq!(pods.streams.len(), 1);
        (pods, wake)
    }

    async fn streams_end(pods: &Pods) {
        pods.streams.close();
        let ended = tokio::time::timeout(Duration::from_secs(5), pods.streams.wait()).await;
        assert!(ended.is_ok(), "a stream goes on");
    }

    #[tokio::test]
    async fn stream_of_a_deleted_pod_ends() {
        let (pods, wake) = with_stream();
        pods.observe(Event::Delete(fixtures::serving_pod()), &wake);
        streams_end(&pods).await;
    }

    #[tokio::test]
    async fn stream_of_a_pod_that_went_unseen_ends_with_the_next_list() {
        let (pods, wake) = with_stream();
        pods.observe(Event::Init, &wake);
        pods.observe(Event::InitDone, &wake);
        streams_end(&pods).await;
        assert!(pods.of_plugin("uid-1").is_empty());
    }

    #[tokio::test]
    async fn stream_ends_with_the_sidecar() {
        let (pods, wake) = with_stream();
        let mut pod = fixtures::serving_pod();
        pod.status = None;
        pods.observe(Event::Apply(pod), &wake);
        streams_end(&pods).await;
    }

    #[tokio::test]
    async fn a_plugin_is_settled_once_pods_are_listed_and_the_live_ones_were_asked() {
        let (pods, wake) = with_stream();
        assert!(!pods.all_heard("uid-1") && pods.all_heard("another"));
        pods.observe(Event::InitDone, &wake);
        // Nobody listens at the pod's address, and that is an answer too.
        pods.settled("uid-1").await;
        assert!(pods.all_heard("uid-1"));
    }
}
