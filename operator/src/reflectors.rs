//! Kinds that every pass over a plugin asks for, as they were last reflectors: trust policies, the
//! namespaces whose labels they choose by, and for [`crate::nodes`] the nodes.
//!
//! Until the first list is there nobody is answered: a cluster whose policies were not read
//! yet must not pass for one without.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource,
    runtime::{
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use paperclip_crds::v1alpha1::PaperclipTrustPolicy;

/// Longest wait for the first list.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first list of a kind did not come.
#[derive(Debug, thiserror::Error)]
#[error("waiting for the first list of {kind}: it did not come within {PATIENCE:?}")]
pub struct NotListed {
    kind: &'static str,
}

/// The objects of one kind.
pub struct Reflector<K: Resource<DynamicType = ()> + Clone + 'static> {
    kind: &'static str,
    store: Store<K>,
    writer: Mutex<Writer<K>>,
}

impl<K> Reflector<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// None of them yet; `kind` is what errors call them.
    pub fn new(kind: &'static str) -> Self {
        let (store, writer) = reflector::store();
        Self {
            kind,
            store,
            writer: Mutex::new(writer),
        }
    }

    /// Takes up what a watch says, before anybody is woken by it.
    pub fn observe(&self, event: &Event<K>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.apply_watcher_event(event);
    }

    /// The objects that are known, also before the first list.
    pub fn now(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    async fn listed(&self) -> Result<&Store<K>, NotListed> {
        let listed = tokio::time::timeout(PATIENCE, self.store.wait_until_ready()).await;
        match listed {
            Ok(Ok(())) => Ok(&self.store),
            Ok(Err(_)) | Err(_) => Err(NotListed { kind: self.kind }),
        }
    }
}

/// All kinds that are kept.
pub struct Reflectors {
    /// Every trust policy.
    pub policies: Reflector<PaperclipTrustPolicy>,
    /// Every namespace.
    pub namespaces: Reflector<Namespace>,
}

impl Default for Reflectors {
    fn default() -> Self {
        Self {
            policies: Reflector::new("the trust policies"),
            namespaces: Reflector::new("the namespaces"),
        }
    }
}

impl Reflectors {
    /// Every policy of the cluster.
    ///
    /// # Errors
    /// When they were not listed yet.
    pub async fn policies(&self) -> Result<Vec<Arc<PaperclipTrustPolicy>>, NotListed> {
        Ok(self.policies.listed().await?.state())
    }

    /// Labels of a namespace; none where it is gone.
    ///
    /// # Errors
    /// When namespaces were not listed yet.
    pub async fn labels_of(&self, namespace: &str) -> Result<BTreeMap<String, String>, NotListed> {
        let found = self.namespaces.listed().await?;
        let found = found.get(&ObjectRef::new(namespace));
        let labels = found.and_then(|found| found.metadata.labels.clone());
        Ok(labels.unwrap_or_default())
    }
}

/// Events of a watch, where a cluster that does not know a kind has none of it.
pub fn none_of_an_unknown_kind<K>(
    event: Result<Event<K>, watcher::Error>,
) -> Vec<Result<Event<K>, watcher::Error>> {
    match event {
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => {
            vec![Ok(Event::Init), Ok(Event::InitDone)]
        }
        event => vec![event],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use kube::core::Status;

    fn policy(name: &str) -> PaperclipTrustPolicy {
        let spec = serde_json::from_value(serde_json::json!({ "require": [] }));
        PaperclipTrustPolicy::new(name, spec.unwrap())
    }

    #[tokio::test]
    async fn what_was_not_listed_yet_is_waited_for_and_not_called_empty() {
        let reflectors = Reflectors::default();
        assert!(reflectors.policies().now_or_never().is_none());
        reflectors.policies.observe(&Event::Init);
        reflectors.policies.observe(&Event::InitApply(policy("a")));
        assert!(reflectors.policies().now_or_never().is_none());
        reflectors.policies.observe(&Event::InitDone);
        assert_eq!(reflectors.policies().await.unwrap().len(), 1);
        reflectors.policies.observe(&Event::Delete(policy("a")));
        assert_eq!(reflectors.policies().await.unwrap().len(), 0);
        assert!(reflectors.labels_of("shop").now_or_never().is_none());
    }

    #[test]
    fn kind_that_is_unknown_has_no_objects_and_another_fault_says_nothing() {
        let failed = |code| {
            let status = Status::failure("no", "No").with_code(code);
            let error = kube::Error::Api(Box::new(status));
            let event: Result<Event<Namespace>, _> = Err(watcher::Error::InitialListFailed(error));
            none_of_an_unknown_kind(event)
        };
        assert!(matches!(
            failed(404)[..],
            [Ok(Event::Init), Ok(Event::InitDone)]
        ));
        assert!(matches!(failed(403)[..], [Err(_)]));
    }
}
