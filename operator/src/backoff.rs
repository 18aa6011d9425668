//! Later and later after failures, counted for each object.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use kube::{
    ResourceExt,
    runtime::{
        controller::{self, Action},
        reflector::ObjectRef,
    },
};

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// The name that an object's failures are counted under: `namespace/name`, and `/name` for an
/// object of the whole cluster.
#[must_use]
pub fn key(object: &impl ResourceExt) -> String {
    named(object.namespace().as_deref(), &object.name_any())
}

fn named(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// The wait after one more failure.
    #[must_use]
    pub fn failed(&self, object: &str) -> Duration {
        let Ok(mut all) = self.0.lock() else {
            return LAST;
        };
        let failures = all.entry(object.to_owned()).or_default();
        let wait = FIRST
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(LAST);
        *failures = failures.saturating_add(1);
        jittered(wait, object)
    }

    /// Forgets the failures of an object that a controller no longer finds.
    pub fn ended<K, E, Q>(&self, pass: &Result<(ObjectRef<K>, Action), controller::Error<E, Q>>)
    where
        K: kube::runtime::reflector::Lookup,
        E: std::error::Error + 'static,
        Q: std::error::Error + 'static,
    {
        if let Err(controller::Error::ObjectNotFound(object)) = pass {
            self.succeeded(&named(object.namespace.as_deref(), &object.name));
        }
    }

    /// Forgets an object's failures.
    pub fn succeeded(&self, object: &str) {
        if let Ok(mut all) = self.0.lock() {
            all.remove(object);
        }
    }
}

/// Up to a fifth longer, by name, so that objects that failed together do not return together.
fn jittered(wait: Duration, object: &str) -> Duration {
    let spread = object.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    wait + wait.mul_f64(f64::from(spread % 100) / 500.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_gone_leaves_nothing_behind() {
        use k8s_openapi::api::core::v1::{Node, Pod};
        use kube::api::ObjectMeta;
        type Pass = Result<
            (ObjectRef<Pod>, Action),
            controller::Error<std::io::Error, std::convert::Infallible>,
        >;
        let metadata = |namespace: Option<&str>| ObjectMeta {
            name: Some("commerce".into()),
            namespace: namespace.map(str::to_owned),
            ..ObjectMeta::default()
        };
        let backoff = Backoff::default();
        let pod = Pod {
            metadata: metadata(Some("shop")),
            ..Pod::default()
        };
        let node = Node {
            metadata: metadata(None),
            ..Node::default()
        };
        let _ = (backoff.failed(&key(&pod)), backoff.failed(&key(&node)));
        let gone = [
            ObjectRef::<Pod>::new("commerce").within("shop").erase(),
            ObjectRef::<Node>::new("commerce").erase(),
        ];
        for gone in gone {
            let pass: Pass = Err(controller::Error::ObjectNotFound(Box::new(gone)));
            backoff.ended(&pass);
        }
        assert!(backoff.0.lock().unwrap().is_empty());
    }

    #[test]
    fn waits_grow_to_a_cap_and_start_again_after_success() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.failed("a")).collect();
        assert!(waits.is_sorted());
        assert!(waits[9] >= LAST && waits[9] <= LAST.mul_f64(1.2));
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a"), waits[0]);
    }
}
