//! The platform's signing key: made once, as the authority is, in a Secret that only the step
//! that pushes mounts. The keys that check its signatures are in a ConfigMap, for people.
//!
//! To rotate, delete the Secret and restart the operator: it makes another key, and the one
//! before goes on to be accepted until a person takes it out of the ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, api::ObjectMeta};
use paperclip_artifact::trust::{InvalidSigningKey, PublicKey, SigningKey};
use paperclip_crds::labels;
use rcgen::KeyPair;

use crate::{
    apply::{ApplyError, apply},
    errors::chain,
    secrets::{self, SecretError},
};

/// Secret that holds the private key.
pub const SECRET: &str = "paperclip-signing-key";
/// Its key.
pub const PRIVATE: &str = paperclip_packing_api::job::SIGNING_KEY;
/// ConfigMap that holds the public keys.
pub const PUBLIC: &str = "paperclip-signing-keys";
/// Its key for what signs now, as cosign wants it.
const CURRENT: &str = "cosign.pub";
/// Its key for what signed before and is accepted still.
const EARLIER: &str = "earlier.pem";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The ConfigMap could not be read.
    #[error("reading ConfigMap {PUBLIC}")]
    Read(#[source] kube::Error),
    /// The ConfigMap could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The content of the Secret is no key.
    #[error("loading the signing key from Secret {SECRET}")]
    Load(#[from] InvalidSigningKey),
}

/// The keys whose signatures count.
#[derive(Clone, Debug)]
pub struct Accepted {
    keys: Vec<PublicKey>,
}

impl Accepted {
    /// The keys, the current one first.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// All of them in PEM, as pods are told them.
    #[must_use]
    pub fn pem(&self) -> String {
        self.keys.iter().map(PublicKey::to_pem).collect()
    }
}

/// Makes the key if this is the first start, and publishes what checks its signatures.
///
/// # Errors
/// When the API server refuses, or the Secret holds no key.
pub async fn prepare(client: &Client, namespace: &str) -> Result<Accepted, SigningError> {
    let private: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets::create_once(&private, SECRET, || {
        let key =
            KeyPair::generate().map_err(|source| paperclip_identity_issue::IssueError::Issue {
                subject: "the platform's signing key".into(),
                source,
            })?;
        let pem = key.serialize_pem();
        let metadata = secrets::metadata(SECRET);
        Ok(secrets::build_secret(
            metadata,
            secrets::OPAQUE,
            [(PRIVATE, pem.as_str())],
        ))
    })
    .await?;
    let key = SigningKey::parse(secrets::text(&secret, PRIVATE)?.as_bytes())?;
    let public: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = public.get_opt(PUBLIC).await.map_err(SigningError::Read)?;
    let known = found.and_then(|found| found.data).unwrap_or_default();
    let (data, accepted) = publish(key.public(), &known);
    apply(&public, &build_map(data)).await?;
    Ok(accepted)
}

/// Desired content of the ConfigMap, and the accepted keys: the current key, and of the others
/// those that the ConfigMap has.
fn publish(
    current: &PublicKey,
    known: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Accepted) {
    let mut keys = vec![current.clone()];
    for text in [CURRENT, EARLIER].iter().filter_map(|key| known.get(*key)) {
        if text.trim().is_empty() {
            continue;
        }
        match PublicKey::parse_all(text) {
            Ok(found) => keys.extend(found),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "ConfigMap {PUBLIC} holds a key that cannot be read"
            ),
        }
    }
    let mut seen = Vec::new();
    keys.retain(|key| {
        let id = key.id();
        let is_new = !seen.contains(&id);
        seen.push(id);
        is_new
    });
    let earlier: String = keys.iter().skip(1).map(PublicKey::to_pem).collect();
    let mut data = BTreeMap::from([(CURRENT.to_owned(), current.to_pem())]);
    if !earlier.is_empty() {
        data.insert(EARLIER.to_owned(), earlier);
    }
    (data, Accepted { keys })
}

fn build_map(data: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(PUBLIC.into()),
            labels: Some(BTreeMap::from([(
                labels::MANAGED_BY.into(),
                labels::OPERATOR.into(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_testkit::ApiServer;
    use serde_json::Value;

    const NAMESPACE: &str = "/api/v1/namespaces/paperclip-system";

    async fn start(server: &ApiServer) -> Accepted {
        prepare(&server.client(), "paperclip-system").await.unwrap()
    }

    fn secret() -> String {
        format!("{NAMESPACE}/secrets/{SECRET}")
    }

    fn map() -> String {
        format!("{NAMESPACE}/configmaps/{PUBLIC}")
    }

    #[tokio::test]
    async fn key_is_made_once_and_its_public_half_is_published() {
        let server = ApiServer::default();
        let first = start(&server).await;
        assert_eq!(first.keys().len(), 1);
        let data = &server.object(&map())["data"];
        assert_eq!(data[CURRENT], first.pem());
        assert_eq!(data[EARLIER], Value::Null);
        server.writes();
        assert_eq!(start(&server).await.pem(), first.pem());
        assert_eq!(server.writes(), [""; 0]);
    }

    #[tokio::test]
    async fn key_before_is_accepted_until_a_person_takes_it_out() {
        let server = ApiServer::default();
        let first = start(&server).await;
        server.remove(&secret());
        let second = start(&server).await;
        assert_ne!(second.keys()[0].id(), first.keys()[0].id());
        assert_eq!(second.keys()[1].id(), first.keys()[0].id());
        let mut published = server.object(&map());
        assert_eq!(published["data"][EARLIER], first.pem());
        assert_eq!(start(&server).await.pem(), second.pem());
        published["data"][EARLIER] = "".into();
        server.put(&map(), &published);
        assert_eq!(start(&server).await.keys().len(), 1);
    }

    #[tokio::test]
    async fn key_that_cannot_be_read_is_none() {
        let server = ApiServer::default();
        start(&server).await;
        let mut published = server.object(&map());
        published["data"][EARLIER] = "nonsense".into();
        server.put(&map(), &published);
        assert_eq!(start(&server).await.keys().len(), 1);
        let texts = [(PRIVATE, "nonsense")];
        let broken = secrets::build_secret(Default::default(), secrets::OPAQUE, texts);
        server.put(&secret(), &broken);
        let refused = prepare(&server.client(), "paperclip-system").await;
        assert!(matches!(refused, Err(SigningError::Load(_))));
    }
}
