//! Reads of the API server by one client that stays connected. Starting kubectl for each look
//! at a condition costs a hundred times as much, and tests look ten times a second.

use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, anyhow, ensure};
use kube::{
    Client, Resource,
    api::{GetParams, ListParams},
    core::{ApiResource, DynamicObject, Request},
    discovery::{Discovery, Scope},
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A kind as the API server serves it.
#[derive(Debug, Clone)]
struct Kind {
    resource: ApiResource,
    is_namespaced: bool,
}

/// A client, and a runtime of its own, so that callers need not be asynchronous and may be.
pub struct Reader {
    runtime: Runtime,
    client: Client,
    kinds: Mutex<Vec<Kind>>,
}

impl Reader {
    /// A reader with the rights of whom `connect` connects as.
    pub(crate) fn new(connect: impl Future<Output = Result<Client>>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(connect)?;
        Ok(Self {
            runtime,
            client,
            kinds: Mutex::default(),
        })
    }

    /// Runs a future to its end, whatever the caller runs in.
    ///
    /// # Errors
    /// That of the future.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        self.runtime.spawn(async move { sender.send(future.await) });
        receiver.recv().map_err(|_| anyhow!("a read panicked"))?
    }

    /// One object, or the list of them.
    ///
    /// # Errors
    /// When there is no such kind or object, or the API server cannot be asked.
    pub fn get(&self, query: &Query<'_>) -> Result<Value> {
        let kind = self.kind(query.kind)?;
        let namespace = match (kind.is_namespaced, query.everywhere) {
            (true, false) => Some(query.namespace.unwrap_or("default")),
            _ => None,
        };
        let request = Request::new(DynamicObject::url_path(&kind.resource, namespace));
        let request = match query.name {
            Some(name) => request.get(name, &GetParams::default())?,
            None => request.list(&ListParams {
                label_selector: query.selector.map(str::to_owned),
                ..ListParams::default()
            })?,
        };
        let client = self.client.clone();
        let mut answer: Value = self.run(async move { Ok(client.request(request).await?) })?;
        // Items of a list do not say what they are.
        for item in answer["items"].as_array_mut().into_iter().flatten() {
            item["apiVersion"] = kind.resource.api_version.clone().into();
            item["kind"] = kind.resource.kind.clone().into();
        }
        Ok(answer)
    }

    /// The kind of this name, plural or singular. One that was not there before is looked up.
    fn kind(&self, name: &str) -> Result<Kind> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = find(&kinds, name) {
            return Ok(kind);
        }
        let discovery = Discovery::new(self.client.clone());
        let discovery = self.run(async move { Ok(discovery.run().await?) })?;
        *kinds = discovery
            .groups()
            .flat_map(|group| group.recommended_resources())
            .map(|(resource, capabilities)| Kind {
                resource,
                is_namespaced: capabilities.scope == Scope::Namespaced,
            })
            .collect();
        // Pods of the core group before those of another.
        kinds.sort_by(|a, b| a.resource.group.cmp(&b.resource.group));
        find(&kinds, name).with_context(|| format!("the API server has no kind {name}"))
    }
}

fn find(kinds: &[Kind], name: &str) -> Option<Kind> {
    let is_named = |kind: &&Kind| {
        let resource = &kind.resource;
        resource.plural == name || resource.kind.to_lowercase() == name
    };
    kinds.iter().find(is_named).cloned()
}

/// What `kubectl get` is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    kind: &'a str,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    everywhere: bool,
    selector: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Reads kubectl's arguments.
    ///
    /// # Errors
    /// When there is one that a [`Reader`] does not know.
    pub fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut query = Self::default();
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            match argument {
                "-n" => query.namespace = Some(arguments.next().context("a namespace")?),
                "-l" => query.selector = Some(arguments.next().context("a selector")?),
                "-A" => query.everywhere = true,
                kind if query.kind.is_empty() => query.kind = kind,
                name => {
                    ensure!(query.name.is_none(), "one object at a time: {name}");
                    query.name = Some(name);
                }
            }
        }
        let words = [query.kind, query.name.unwrap_or_default()];
        let is_plain = |word: &&str| !word.starts_with('-') && !word.contains([',', '/']);
        ensure!(words.iter().all(is_plain), "not understood: {words:?}");
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_kubectl_are_understood() {
        let query = Query::parse(&["pods", "-n", "shop", "-l", "a=b"]).unwrap();
        assert_eq!(
            (query.kind, query.namespace, query.selector),
            ("pods", Some("shop"), Some("a=b"))
        );
        let query = Query::parse(&["secret", "s", "-n", "shop"]).unwrap();
        assert_eq!((query.kind, query.name), ("secret", Some("s")));
        assert!(Query::parse(&["rolebindings", "-A"]).unwrap().everywhere);
    }

    #[test]
    fn what_only_kubectl_can_do_is_not_understood() {
        for arguments in [
            &["pods,services"][..],
            &["pods", "a", "b"],
            &["events", "--sort-by=x"],
            &["pod/a"],
        ] {
            assert!(Query::parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
