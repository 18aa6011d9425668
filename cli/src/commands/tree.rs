//! `tree`: what a plugin consists of in the cluster.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{ContainerStatus, Pod, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
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
    table::{Table, age_since},
};

/// Endings of the Secrets that a running plugin has. They are told by name: to list Secrets
/// is to read them.
const SECRETS: [&str; 3] = ["-tls", "-store", "-config"];

/// One object, and what belongs to it.
#[derive(Debug, Serialize)]
struct Node {
    name: String,
    state: String,
    /// When it came to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
}

impl Node {
    fn leaf(name: String, state: impl Into<String>) -> Self {
        Self {
            name,
            state: state.into(),
            created: None,
            children: Vec::new(),
        }
    }

    /// An object of the cluster, which has an age.
    fn object<K>(object: &K, state: impl Into<String>, children: Vec<Self>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self {
            name: format!("{}/{}", K::kind(&()), object.name_any()),
            state: state.into(),
            created: object.meta().creation_timestamp.clone(),
            children,
        }
    }

    fn text(&self, now: Timestamp) -> String {
        let mut table = Table::new(["NAME", "STATE", "AGE"]);
        self.add_to(&mut table, ["", ""], now);
        table.render()
    }

    /// Adds the node and what is below it; `lead` stands before its own name and before theirs.
    fn add_to(&self, table: &mut Table, lead: [&str; 2], now: Timestamp) {
        let [before, below] = lead;
        table.add_row([
            format!("{before}{}", self.name),
            self.state.clone(),
            age_since(self.created.as_ref(), now),
        ]);
        for (index, node) in self.children.iter().enumerate() {
            let is_last = index + 1 == self.children.len();
            let (branch, deeper) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let lead = [branch, deeper].map(|part| format!("{below}{part}"));
            node.add_to(table, [&lead[0], &lead[1]], now);
        }
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
            Node::object(revision, state, Vec::new())
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
                "not reconciled",
            )
        };
        children.extend(SECRETS.map(secret));
    }
    let status = plugin.parsed.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let reason = match observed == plugin.parsed.metadata.generation {
        true => plugin.ready().1,
        false => "not reconciled as it is now",
    };
    let tree = Node::object(&plugin.parsed, reason, children);
    output::answer(session.global.output, &tree, || {
        Ok(tree.text(Timestamp::now()))
    })
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
    let node = |object: &K| Node::object(object, "", Vec::new());
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
    let state = format!(
        "{}/{wanted} available",
        status.available_replicas.unwrap_or(0)
    );
    let children = own.map(|set| replica_set(set, pods)).collect();
    Node::object(deployment, state, children)
}

fn replica_set(set: &ReplicaSet, pods: &[Pod]) -> Node {
    let activation = set.annotations().get(labels::ACTIVATION);
    let own = pods.iter().filter(|pod| owned_by(*pod, set.uid()));
    let state = activation.map_or_else(String::new, |number| format!("pods {number}"));
    Node::object(set, state, own.map(node_of_pod).collect())
}

fn node_of_pod(pod: &Pod) -> Node {
    let status = pod.status.clone().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let phase = match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => status.phase.unwrap_or_default(),
    };
    let all = [status.init_container_statuses, status.container_statuses];
    let state = format!("{phase} on {}", node.as_deref().unwrap_or("no node"));
    let containers = all.into_iter().flatten().flatten();
    Node::object(pod, state, containers.map(|one| container(&one)).collect())
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
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches_and_ages() {
        let pod: Pod = object(json!({
            "metadata": {"name": "pcp-tea-1", "creationTimestamp": "2026-11-21T09:59:30Z"},
            "spec": {"containers": [], "nodeName": "a"},
            "status": {"phase": "Running", "containerStatuses": [{"name": "worker", "image": "", "imageID": "",
                "ready": true, "restartCount": 2, "state": {"running": {}}}]},
        }));
        let service: Service = object(json!({
            "metadata": {"name": "pcp-tea", "creationTimestamp": "2026-11-21T07:00:00Z"},
        }));
        let mut tree = Node::leaf("PaperclipPlugin/tea".into(), "Succeeded");
        tree.children = vec![node_of_pod(&pod), Node::object(&service, "", Vec::new())];
        assert_eq!(
            tree.text("2026-11-21T10:00:00Z".parse().unwrap()),
            "NAME                     STATE                 AGE\n\
             PaperclipPlugin/tea      Succeeded             -\n\
             ├─ Pod/pcp-tea-1         Running on a          30s\n\
             │  └─ container worker   running, 2 restarts   -\n\
             └─ Service/pcp-tea       -                     3h\n"
        );
    }
}
