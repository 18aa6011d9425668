//! Identity of an object, parsed once where the object comes in.

use std::ops::{Deref, DerefMut};

use kube::ResourceExt;

/// Namespace, name and uid of an object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, which no later object of the same name has.
    pub uid: String,
}

/// An object that lacks what the API server gives to every object of a namespace.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("object {name} has no metadata.{field}")]
pub struct MalformedObject {
    /// Its name, as far as there is one.
    pub name: String,
    /// The field that is missing.
    pub field: &'static str,
}

impl ObjectKey {
    /// The key of an object.
    ///
    /// # Errors
    /// When namespace, name or uid are missing.
    pub fn of(object: &impl ResourceExt) -> Result<Self, MalformedObject> {
        let metadata = object.meta();
        let required = |field, value: &Option<String>| {
            value.clone().ok_or_else(|| MalformedObject {
                name: metadata.name.clone().unwrap_or_default(),
                field,
            })
        };
        Ok(Self {
            namespace: required("namespace", &metadata.namespace)?,
            name: required("name", &metadata.name)?,
            uid: required("uid", &metadata.uid)?,
        })
    }
}

/// An object with its key. Edits of the object's metadata leave the key as it was parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed<K> {
    /// The key.
    pub key: ObjectKey,
    /// The object.
    pub object: K,
}

impl<K: ResourceExt> Keyed<K> {
    /// Parses the key of an object.
    ///
    /// # Errors
    /// When namespace, name or uid are missing.
    pub fn parse(object: K) -> Result<Self, MalformedObject> {
        Ok(Self {
            key: ObjectKey::of(&object)?,
            object,
        })
    }
}

impl<K> Deref for Keyed<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

impl<K> DerefMut for Keyed<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("shop".into());
        pod.metadata.name = Some("tea".into());
        pod.metadata.uid = Some("1".into());
        pod
    }

    #[test]
    fn key_of_an_object_is_its_namespace_name_and_uid() {
        let key = ObjectKey {
            namespace: "shop".into(),
            name: "tea".into(),
            uid: "1".into(),
        };
        assert_eq!(ObjectKey::of(&pod()), Ok(key));
    }

    #[test]
    fn object_without_a_uid_is_malformed_and_named() {
        let mut pod = pod();
        pod.metadata.uid = None;
        let error = Keyed::parse(pod).unwrap_err();
        assert_eq!(error.to_string(), "object tea has no metadata.uid");
    }
}
