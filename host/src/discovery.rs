//! Which pods there are: EndpointSlices of the plugins of this host, or a fixed list.
//!
//! The operator labels each plugin's Service with its host, the EndpointSlice
//! controller copies the labels, and slices hold not-ready pods too. While the
//! API server is away the pods that are known stay known.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, stream::select_all};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use paperclip_bridge::tls::ClientTls;
use paperclip_crds::labels;
use paperclip_error_chain::chain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    host::Host,
    plugins::PluginId,
    session::{self, Target},
};

/// Name of the pods' port that speaks the contract.
const PORT_NAME: &str = paperclip_pod_layout::port::GRPC_NAME;

/// Whether the pods that were there at the start are known.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<AtomicBool>);

impl Synced {
    /// Whether they are.
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    plugin: PluginId,
    addresses: BTreeMap<SocketAddr, Endpoint>,
}

/// What a slice says of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    /// Name of the pod that it is of.
    pod: Option<String>,
    /// Whether the kubelet calls that pod ready.
    is_ready: bool,
}

/// A session that is kept.
struct Kept {
    unwanted: CancellationToken,
    readiness: watch::Sender<bool>,
}

/// The sessions the host keeps.
pub struct Sessions {
    host: Arc<Host>,
    tls: Arc<ClientTls>,
    kept: HashMap<Target, Kept>,
}

impl Sessions {
    /// None yet.
    pub fn new(host: Arc<Host>, tls: ClientTls) -> Self {
        Self {
            host,
            tls: Arc::new(tls),
            kept: HashMap::new(),
        }
    }

    /// Keeps sessions with exactly these pods, of exactly these plugins. Of each pod it is told
    /// whether it is ready.
    fn keep(&mut self, plugins: &HashSet<PluginId>, targets: &HashMap<Target, bool>) {
        self.kept.retain(|target, kept| {
            let wanted = targets.contains_key(target);
            if !wanted {
                kept.unwanted.cancel();
            }
            wanted
        });
        for (target, is_ready) in targets {
            if let Some(kept) = self.kept.get(target) {
                let change = |known: &mut bool| std::mem::replace(known, *is_ready) != *is_ready;
                kept.readiness.send_if_modified(change);
            } else {
                let kept = self.begin(target.clone(), *is_ready);
                self.kept.insert(target.clone(), kept);
            }
        }
        for id in plugins {
            self.host.plugin(id);
        }
        for plugin in self.host.plugins.all() {
            plugin.set_wanted(plugins.contains(plugin.id()));
        }
    }

    fn begin(&self, target: Target, is_ready: bool) -> Kept {
        let stop = self.host.stop.clone();
        let unwanted = stop.child_token();
        let (readiness, told) = watch::channel(is_ready);
        let session = session::keep(
            Arc::clone(&self.host),
            Arc::clone(&self.tls),
            target,
            unwanted.clone(),
            told,
        );
        self.host.tasks.spawn(async move {
            stop.run_until_cancelled(session).await;
        });
        Kept {
            unwanted,
            readiness,
        }
    }

    /// Keeps sessions with a fixed list of pods.
    pub fn keep_fixed(&mut self, targets: &[Target], synced: &Synced) {
        let plugins = targets.iter().map(|target| target.plugin.clone()).collect();
        let targets = targets.iter().map(|target| (target.clone(), true));
        self.keep(&plugins, &targets.collect());
        synced.done();
    }

    /// Keeps sessions with the pods the cluster has, for ever: those in the given namespaces, or
    /// in all where none is given.
    pub async fn follow(mut self, client: Client, namespaces: Vec<String>, synced: Synced) {
        let apis: Vec<Api<EndpointSlice>> = match &namespaces[..] {
            [] => vec![Api::all(client)],
            some => some
                .iter()
                .map(|namespace| Api::namespaced(client.clone(), namespace))
                .collect(),
        };
        let mut watches = vec![Watch::default(); apis.len()];
        let mut events = select_all(apis.into_iter().enumerate().map(|(index, api)| {
            watcher::watcher(api, self.selection())
                .default_backoff()
                .map(move |event| (index, event))
                .boxed()
        }));
        while let Some((index, event)) = events.next().await {
            match event {
                Ok(event) => watches[index].take(event),
                Err(failure) => {
                    warn!(
                        error = chain(&failure),
                        "addresses of plugins cannot be followed"
                    );
                    continue;
                }
            }
            self.update(&watches);
            if !synced.is_done() && watches.iter().all(|watch| watch.synced) {
                synced.done();
                info!("addresses of plugins known");
            }
        }
    }

    fn selection(&self) -> watcher::Config {
        watcher::Config::default().labels(&format!(
            "{}={},{}={}",
            labels::HOST,
            self.host.name.name,
            labels::HOST_NAMESPACE,
            self.host.name.namespace
        ))
    }

    fn update(&mut self, watches: &[Watch]) {
        let slices = || watches.iter().flat_map(|watch| watch.known.values());
        let plugins = slices().map(|slice| slice.plugin.clone()).collect();
        let targets = slices()
            .flat_map(|slice| {
                slice.addresses.iter().map(|(address, endpoint)| {
                    let target = Target {
                        plugin: slice.plugin.clone(),
                        address: *address,
                        pod: endpoint.pod.clone(),
                    };
                    (target, endpoint.is_ready)
                })
            })
            .collect();
        self.keep(&plugins, &targets);
    }
}

/// What a watch has told so far.
#[derive(Clone, Debug, Default)]
struct Watch {
    known: HashMap<String, Slice>,
    /// A list that is still coming in; it replaces what is known once it is whole.
    fresh: HashMap<String, Slice>,
    synced: bool,
}

impl Watch {
    fn take(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(slice) => {
                self.fresh
                    .extend(read(&slice).map(|read| (key(&slice), read)));
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.fresh);
                self.synced = true;
            }
            Event::Apply(slice) => {
                match read(&slice) {
                    Some(read) => self.known.insert(key(&slice), read),
                    None => self.known.remove(&key(&slice)),
                };
            }
            Event::Delete(slice) => {
                self.known.remove(&key(&slice));
            }
        }
    }
}

fn key(slice: &EndpointSlice) -> String {
    format!(
        "{}/{}",
        slice.namespace().unwrap_or_default(),
        slice.name_any()
    )
}

/// Reads a slice; none for one that is not the operator's.
fn read(slice: &EndpointSlice) -> Option<Slice> {
    let label = |name: &str| slice.labels().get(name).cloned();
    let namespace = slice.namespace()?;
    // A slice names only a plugin of its own namespace, whatever its labels say.
    let plugin = PluginId {
        name: label(labels::PLUGIN)?,
        uid: label(labels::PLUGIN_UID)?,
        namespace: label(labels::PLUGIN_NAMESPACE).filter(|label| *label == namespace)?,
    };
    let port = slice
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref() == Some(PORT_NAME))
        .and_then(|port| u16::try_from(port.port?).ok());
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| {
            let pod = endpoint.target_ref.as_ref();
            let conditions = endpoint.conditions.as_ref();
            let read = Endpoint {
                pod: pod.and_then(|pod| pod.name.clone()),
                // `ready` is always true here, since the Service publishes pods that are not.
                // What is not told counts as true, by the API's own words.
                is_ready: conditions.and_then(|told| told.serving).unwrap_or(true),
            };
            let addresses = endpoint.addresses.iter();
            addresses.map(move |address| (address, read.clone()))
        })
        .filter_map(|(address, endpoint)| {
            let address = SocketAddr::new(address.parse::<IpAddr>().ok()?, port?);
            Some((address, endpoint))
        })
        .collect();
    Some(Slice { plugin, addresses })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(namespace_label: &str, ports: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"name": "s", "namespace": "shop", "labels": {
                "plugins.paperclip.ing/plugin": "commerce",
                "plugins.paperclip.ing/plugin-namespace": namespace_label,
                "plugins.paperclip.ing/plugin-uid": "uid",
            }},
            "ports": ports,
            "endpoints": [
                {"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": false},
                    "targetRef": {"kind": "Pod", "name": "pcp-commerce-1"}},
                {"addresses": ["10.1.0.2"]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_slice_names_its_plugin_and_all_its_pods() {
        let read = read(&slice(
            "shop",
            json!([{"name": "health", "port": 8081}, {"name": "grpc", "port": 8443}]),
        ));
        let named = Some("pcp-commerce-1".to_owned());
        let addresses = [
            ("10.1.0.1:8443", named, false),
            ("10.1.0.2:8443", None, true),
        ]
        .map(|(address, pod, is_ready)| (address.parse().unwrap(), Endpoint { pod, is_ready }));
        assert_eq!(
            read,
            Some(Slice {
                plugin: "shop/commerce/uid".parse().unwrap(),
                addresses: addresses.into(),
            })
        );
    }

    #[test]
    fn a_slice_without_pods_still_names_its_plugin() {
        assert_eq!(
            read(&slice("shop", json!([]))).unwrap().addresses,
            BTreeMap::new()
        );
    }

    #[test]
    fn a_list_replaces_what_is_known_only_when_it_is_whole() {
        let mut watch = Watch::default();
        watch.take(Event::InitApply(slice("shop", json!([]))));
        watch.take(Event::InitDone);
        assert_eq!(watch.known.len(), 1);
        watch.take(Event::Init);
        assert_eq!(watch.known.len(), 1);
        watch.take(Event::InitDone);
        assert!(watch.known.is_empty() && watch.synced);
    }

    #[test]
    fn a_slice_cannot_speak_for_another_namespace() {
        assert_eq!(
            read(&slice("bank", json!([{"name": "grpc", "port": 8443}]))),
            None
        );
    }
}
