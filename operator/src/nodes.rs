//! Platforms of the cluster's nodes, which artifacts are packed for.
//!
//! Of a node only its metadata is read: when it came, and the labels with its operating system
//! and CPU, which every kubelet sets. Nodes that this release packs for nothing of are passed
//! over; where there are no others, artifacts are packed for linux/amd64.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::ready};
use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use paperclip_artifact_format::platform::{Platform, Platforms};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, reflectors::Reflector};

/// Label of a node with its operating system.
pub const OS: &str = "kubernetes.io/os";
/// Label of a node with its CPU.
pub const ARCHITECTURE: &str = "kubernetes.io/arch";

/// How long a platform is there before what was packed without it is packed again: a machine
/// that a scaler tries out and takes away moves nothing.
const SETTLED: Duration = Duration::from_secs(600);

/// The platforms of the cluster.
pub struct Nodes {
    /// Platforms that an administrator named in place of the nodes.
    pinned: Option<Platforms>,
    reflector: Reflector<PartialObjectMeta<Node>>,
}

impl Nodes {
    /// The named platforms, or those of the nodes where none is named.
    #[must_use]
    pub fn new(named: &[Platform]) -> Self {
        let named: Platforms = named.iter().cloned().collect();
        Self {
            pinned: Some(named).filter(|named| !named.is_empty()),
            reflector: Reflector::new("the nodes"),
        }
    }

    /// Reads all nodes, unless platforms are named.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn list(&self, client: Client) -> Result<(), kube::Error> {
        if self.pinned.is_none() {
            let api: Api<PartialObjectMeta<Node>> = Api::all(client);
            let nodes = api.list(&ListParams::default()).await?;
            self.observe(Event::Init);
            for node in nodes {
                self.observe(Event::InitApply(node));
            }
            self.observe(Event::InitDone);
        }
        Ok(())
    }

    /// Takes a change in.
    pub fn observe(&self, event: Event<PartialObjectMeta<Node>>) {
        self.reflector.observe(&event);
    }

    /// Platforms that a new package is packed for.
    #[must_use]
    pub fn platforms(&self) -> Platforms {
        let found = self.select(|_| true);
        if found.is_empty() {
            return Platforms::default();
        }
        found
    }

    /// Platforms that an older artifact is packed again for: those that have been there for a while.
    #[must_use]
    pub fn settled(&self, now: Timestamp) -> Platforms {
        self.select(|since| {
            let age = Duration::try_from(now.duration_since(since));
            age.is_ok_and(|age| age >= SETTLED)
        })
    }

    fn select(&self, wanted: impl Fn(Timestamp) -> bool) -> Platforms {
        if let Some(pinned) = &self.pinned {
            return pinned.clone();
        }
        let nodes = self.reflector.now();
        let seen = nodes.iter().filter_map(|node| platform_of(node));
        let fitting = seen.filter(|(_, since)| wanted(*since));
        fitting.map(|(platform, _)| platform).collect()
    }
}

/// Platform of a node and when it came; none where nothing is packed for it.
fn platform_of(node: &PartialObjectMeta<Node>) -> Option<(Platform, Timestamp)> {
    let label = |name| node.labels().get(name).map_or("", String::as_str);
    let platform = Platform::of_oci(label(OS), label(ARCHITECTURE))?;
    Some((platform, node.creation_timestamp()?.0))
}

/// Follows the nodes until told to stop, unless platforms are named.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    if context.nodes.pinned.is_some() {
        return;
    }
    let api: Api<PartialObjectMeta<Node>> = Api::all(context.client.clone());
    let following = watcher(api, watcher::Config::default())
        .modify(|node| {
            node.managed_fields_mut().clear();
            node.annotations_mut().clear();
        })
        .default_backoff()
        .for_each(|event| {
            match event {
                Ok(event) => context.nodes.observe(event),
                Err(error) => tracing::warn!(%error, "watching nodes failed"),
            }
            ready(())
        });
    stop.run_until_cancelled(Box::pin(following)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn node(name: &str, os: &str, cpu: &str, since: &str) -> PartialObjectMeta<Node> {
        let labels = json!({OS: os, ARCHITECTURE: cpu});
        let metadata = json!({"name": name, "labels": labels, "creationTimestamp": since});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn old(name: &str, cpu: &str) -> PartialObjectMeta<Node> {
        node(name, "linux", cpu, "2026-01-01T00:00:00Z")
    }

    fn told(nodes: &Nodes) -> [String; 2] {
        let now = NOW.parse().unwrap();
        [nodes.platforms(), nodes.settled(now)].map(|platforms| platforms.to_string())
    }

    #[test]
    fn platforms_are_those_of_the_nodes_and_a_new_one_counts_for_what_is_new_alone() {
        let nodes = Nodes::new(&[]);
        assert_eq!(told(&nodes), ["linux/amd64", ""]);
        nodes.observe(Event::Apply(old("a", "arm64")));
        assert_eq!(told(&nodes), ["linux/arm64", "linux/arm64"]);
        let young = node("b", "linux", "amd64", "2026-01-01T00:59:00Z");
        nodes.observe(Event::Apply(young.clone()));
        assert_eq!(told(&nodes), ["linux/amd64, linux/arm64", "linux/arm64"]);
        nodes.observe(Event::Delete(young));
        assert_eq!(told(&nodes), ["linux/arm64", "linux/arm64"]);
    }

    #[test]
    fn nodes_that_nothing_is_packed_for_are_passed_over() {
        let nodes = Nodes::new(&[]);
        for (name, os, cpu) in [
            ("a", "windows", "amd64"),
            ("b", "linux", "s390x"),
            ("c", "", ""),
        ] {
            nodes.observe(Event::Apply(node(name, os, cpu, NOW)));
        }
        assert_eq!(told(&nodes), ["linux/amd64", ""]);
    }

    #[test]
    fn a_list_takes_the_place_of_what_was_known_when_it_is_complete() {
        let nodes = Nodes::new(&[]);
        nodes.observe(Event::Apply(old("a", "arm64")));
        nodes.observe(Event::Init);
        nodes.observe(Event::InitApply(old("b", "amd64")));
        assert_eq!(told(&nodes)[0], "linux/arm64");
        nodes.observe(Event::InitDone);
        assert_eq!(told(&nodes)[0], "linux/amd64");
    }

    #[test]
    fn named_platforms_stand_whatever_the_nodes_are() {
        let nodes = Nodes::new(&["linux/arm64".parse().unwrap()]);
        nodes.observe(Event::Apply(old("a", "amd64")));
        assert_eq!(told(&nodes), ["linux/arm64", "linux/arm64"]);
    }
}
