//! `tree`: what a plugin consists of in the cluster.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ContainerStatus, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use paperclip_crds::labels;
use serde::{Serialize, de::DeserializeOwned};

use super::{Session, revisions};
use crate::{
    args::PluginName,
    error::Error,
    output,
    plugin::{self, Plugin},
};

/// Endings of the Secrets that a running plugin has. They are told by name: to list Secrets
/// is to read them.
const SECRETS: [&str; 3] = ["-tls", "-store", "-config"];

/// One object, and what belongs to it.
#[derive(Debug, Serialize)]
struct Node {
    name: String,
    state: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
}

impl Node {
    fn leaf(name: String, state: impl Into<String>) -> Self {
        Self {
            name,
            state: state.into(),
            children: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.line());
        append(&self.children, "", &mut text);
        text
    }

    fn line(&self) -> String {
        format!("{}  {}", self.name, self.state)
            .trim_end()
            .to_owned()
    }
}

fn append(nodes: &[Node], indent: &str, text: &mut String) {
    for (index, node) in nodes.iter().enumerate() {
        let is_last = index + 1 == nodes.len();
        let (branch, below) = if is_last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        text.push_str(&format!("{indent}{branch}{}\n", node.line()));
        append(&node.children, &format!("{indent}{below}"), text);
    }
}

pub(super) async fn run(session: &Session, name: &PluginName) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    let revisions = revisions::list(session, &plugin).await?;
    let deployments: Vec<Deployment> = list(session, &plugin).await?;
    let sets: Vec<ReplicaSet> = list(session, &plugin).await?;
    let pods: Vec<Pod> = list(session, &plugin).await?;
    let mut children: Vec<Node> = revisions
        .iter()
        .map(|revision| {
            let state = revision.status.as_ref().and_then(|status| status.state);
            let state = state.map_or_else(|| "Pending".into(), |state| format!("{state:?}"));
            Node::leaf(
                format!("PaperclipPluginRevision/{}", revision.name_any()),
                state,
            )
        })
        .collect();
    children.extend(
        deployments
            .iter()
            .map(|found| deployment(found, &sets, &pods)),
    );
    children.extend(named::<Service>(session, &plugin).await?);
    children.extend(named::<ServiceAccount>(session, &plugin).await?);
    children.extend(named::<NetworkPolicy>(session, &plugin).await?);
    if !deployments.is_empty() {
        let secret = |ending| {
            Node::leaf(
                format!("Secret/pcp-{}{ending}", plugin.name()),
                "not looked at",
            )
        };
        children.extend(SECRETS.map(secret));
    }
    let status = plugin.parsed.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let reason = match observed == plugin.parsed.metadata.generation {
        true => plugin.ready().1,
        false => "not looked at as it is now",
    };
    let tree = Node {
        name: format!("PaperclipPlugin/{}", plugin.name()),
        state: reason.to_owned(),
        children,
    };
    output::answer(session.global.output, &tree, || Ok(tree.text()))
}

/// The plugin's objects of a kind, by name.
async fn named<K>(session: &Session, plugin: &Plugin) -> Result<Vec<Node>, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let found: Vec<K> = list(session, plugin).await?;
    let node = |object: &K| Node::leaf(format!("{}/{}", K::kind(&()), object.name_any()), "");
    Ok(found.iter().map(node).collect())
}

async fn list<K>(session: &Session, plugin: &Plugin) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(session.cluster.client.clone(), &plugin.namespace());
    let selector = format!("{}={}", labels::PLUGIN_UID, plugin.uid());
    let found = api.list(&ListParams::default().labels(&selector)).await;
    let doing = format!(
        "list {} of PaperclipPlugin {}",
        K::plural(&()),
        plugin.full_name()
    );
    Ok(found
        .map_err(|source| Error::cluster(&doing, source))?
        .items)
}

fn deployment(deployment: &Deployment, sets: &[ReplicaSet], pods: &[Pod]) -> Node {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let own = sets.iter().filter(|set| owned_by(*set, deployment.uid()));
    Node {
        name: format!("Deployment/{}", deployment.name_any()),
        state: format!(
            "{}/{wanted} available",
            status.available_replicas.unwrap_or(0)
        ),
        children: own.map(|set| replica_set(set, pods)).collect(),
    }
}

fn replica_set(set: &ReplicaSet, pods: &[Pod]) -> Node {
    let activation = set.annotations().get(labels::ACTIVATION);
    let own = pods.iter().filter(|pod| owned_by(*pod, set.uid()));
    Node {
        name: format!("ReplicaSet/{}", set.name_any()),
        state: activation.map_or_else(String::new, |number| format!("pods {number}")),
        children: own.map(pod).collect(),
    }
}

fn pod(pod: &Pod) -> Node {
    let status = pod.status.clone().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let phase = match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => status.phase.unwrap_or_default(),
    };
    let all = [status.init_container_statuses, status.container_statuses];
    Node {
        name: format!("Pod/{}", pod.name_any()),
        state: format!("{phase} on {}", node.as_deref().unwrap_or("no node")),
        children: all
            .into_iter()
            .flatten()
            .flatten()
            .map(|one| container(&one))
            .collect(),
    }
}

fn container(container: &ContainerStatus) -> Node {
    let state = container.state.clone().unwrap_or_default();
    let word = match (state.running, state.waiting, state.terminated) {
        (Some(_), ..) => "running".to_owned(),
        (_, Some(waiting), _) => waiting.reason.unwrap_or_else(|| "waiting".into()),
        (_, _, Some(ended)) => format!("ended with code {}", ended.exit_code),
        _ => String::new(),
    };
    let restarts = match container.restart_count {
        0 => String::new(),
        count => format!(", {count} restarts"),
    };
    Node::leaf(format!("container {}", container.name), word + &restarts)
}

fn owned_by(object: &impl ResourceExt, owner: Option<String>) -> bool {
    let mut owners = object.owner_references().iter();
    owner.is_some_and(|uid| owners.any(|found| found.uid == uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let tree = Node {
            name: "PaperclipPlugin/tea".into(),
            state: "Succeeded".into(),
            children: vec![
                Node {
                    name: "Deployment/pcp-tea".into(),
                    state: "1/1 available".into(),
                    children: vec![Node::leaf("Pod/pcp-tea-1".into(), "Running on a")],
                },
                Node::leaf("Service/pcp-tea".into(), ""),
            ],
        };
        assert_eq!(
            tree.text(),
            "PaperclipPlugin/tea  Succeeded\n\
             ├─ Deployment/pcp-tea  1/1 available\n\
             │  └─ Pod/pcp-tea-1  Running on a\n\
             └─ Service/pcp-tea\n"
        );
    }
}
