//! Context of every reconcile: clients, caches and flags.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{Api, Client};
use paperclip_artifact::pull::{PullError, read_lock, read_plugin_manifest};
use paperclip_bridge::tls::{ClientTls, TlsError};
use paperclip_identity::Identity;
use paperclip_identity_issue::{Authority, IssueError, Subject};
use paperclip_oci::{
    Digest,
    client::{Credentials, StoreClient, StoreError, StoreOptions},
};
use paperclip_packing_api::{report::Pushed, request::PackRequest, stored::find};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    args::Args,
    errors::chain,
    events::Events,
    fingerprint::Fingerprints,
    manifest_cache::ManifestCache,
    metrics::Metrics,
    nodes::Nodes,
    plugin::Queue,
    pods::Pods,
    pull_tokens::PullTokens,
    reflectors::Reflectors,
    secrets::{self, SecretError},
    signing::{self, SigningError},
};

/// Why the operator cannot start its work.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The platform's Secrets are not there.
    #[error(transparent)]
    Secrets(#[from] SecretError),
    /// The platform's signing key cannot be had.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The operator's own certificate cannot be made.
    #[error(transparent)]
    Ca(#[from] IssueError),
    /// The operator's own certificate cannot be used.
    #[error("preparing the operator's client certificate")]
    Tls(#[from] TlsError),
    /// The nodes could not be read.
    #[error("listing the cluster's nodes")]
    Nodes(#[source] kube::Error),
    /// The store's address or certificate cannot be used.
    #[error("preparing the client of the artifact store")]
    Store(#[source] Box<StoreError>),
}

/// Access to the store for a plugin's pods: content of their store Secret.
pub struct StoreAccess {
    /// Their credential.
    pub shown: Shown,
    /// Authority of the store's certificate, if it is not a public one.
    pub ca: Option<String>,
}

/// Credential of pods for the store.
pub enum Shown {
    /// A token for the repositories of their plugin. The store in the cluster takes these.
    Token(PullTokens),
    /// The read credential of a store of somebody else's, the same for all.
    Credential(Credentials),
}

/// Context of every reconcile.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Flags.
    pub args: Args,
    /// The authority.
    pub authority: Authority,
    /// Makes fingerprints of secrets, by the authority's key.
    pub fingerprints: Fingerprints,
    /// The keys by one of which an artifact of the store is signed.
    pub signing: signing::Accepted,
    /// Access of plugins' pods to the store.
    pub store_access: StoreAccess,
    /// Platforms of the cluster's nodes.
    pub nodes: Nodes,
    /// Pods and what they say of themselves.
    pub pods: Arc<Pods>,
    /// Kinds that every reconcile reads.
    pub reflectors: Reflectors,
    /// Publisher of events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Start of this operator.
    pub started: Timestamp,
    /// Reconciles of a plugin that failed in a row, while it was Ready.
    pub broken_off: Mutex<BTreeMap<String, u32>>,
    /// The queue of packing Jobs. Locked while one is created, so that there is never one too many.
    pub queue: tokio::sync::Mutex<Queue>,
    /// The time, which tests set.
    pub clock: fn() -> Timestamp,
    /// Client of the artifact store.
    pub store: StoreClient,
    manifests: ManifestCache,
}

impl Context {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Makes what is missing of the platform's Secrets and reads the rest.
    ///
    /// # Errors
    /// When the API server refuses, or stored material is unusable.
    pub async fn prepare(
        client: Client,
        args: Args,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let api: Api<Secret> = Api::namespaced(client.clone(), &args.namespace);
        let authority = secrets::authority(&api).await?;
        let signing = signing::prepare(&client, &args.namespace).await?;
        maintain_store(&api, &authority, &args).await?;
        let (credentials, ca) = secrets::credential(&api, &args.store_read_secret).await?;
        let store_access = StoreAccess {
            shown: match args.store_pull {
                Some(_) => Shown::Token(secrets::tokens(&api).await?),
                None => Shown::Credential(credentials.clone()),
            },
            ca: ca.clone(),
        };
        let store = StoreClient::new(StoreOptions {
            address: args.store_read.clone(),
            plain_http: false,
            credentials: Some(credentials),
            ca_pem: ca.map(String::into_bytes),
            ..StoreOptions::default()
        })
        .map_err(|error| StartError::Store(Box::new(error)))?;
        let nodes = Nodes::new(&args.platforms);
        nodes
            .list(client.clone())
            .await
            .map_err(StartError::Nodes)?;
        Ok(Self {
            nodes,
            pods: Arc::new(Pods::new(own_tls(&authority)?)),
            reflectors: Reflectors::default(),
            events: Events::new(client.clone(), &args.pod_name),
            client,
            args,
            fingerprints: Fingerprints::new(authority.private_key()),
            authority,
            signing,
            store_access,
            metrics,
            started: Timestamp::now(),
            broken_off: Mutex::default(),
            queue: tokio::sync::Mutex::default(),
            clock: Timestamp::now,
            store,
            manifests: ManifestCache::default(),
        })
    }

    /// The plugin manifest of an artifact, pulled unless it was used lately.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn plugin_manifest(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Arc<Value>, PullError> {
        if let Some(found) = self.manifests.get(digest) {
            return Ok(found);
        }
        let manifest = Arc::new(read_plugin_manifest(&self.store, repository, digest).await?);
        self.manifests.put(digest.clone(), manifest.clone());
        Ok(manifest)
    }

    /// The lock that an artifact was installed from.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lock(&self, repository: &str, digest: &Digest) -> Result<Vec<u8>, PullError> {
        read_lock(&self.store, repository, digest).await
    }

    /// The artifact of an earlier packing of this request, and the key that signed it.
    /// A store that does not answer counts as empty: the packing Job finds that out and says
    /// so. So does what none of the platform's keys signed: it is packed again, and signed.
    pub async fn packed(&self, request: &PackRequest) -> Option<(Pushed, Digest)> {
        let found = find(&self.store, request, self.signing.keys()).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "looking for an artifact failed");
            None
        })
    }

    /// Keeps a manifest as one that was read from the store.
    pub fn remember_manifest(&self, digest: Digest, manifest: Value) {
        self.manifests.put(digest, Arc::new(manifest));
    }

    /// Renews what runs out of the platform's own certificates.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn renew(&self) -> Result<(), StartError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.args.namespace);
        maintain_store(&api, &self.authority, &self.args).await?;
        self.pods.use_tls(own_tls(&self.authority)?);
        Ok(())
    }
}

async fn maintain_store(
    api: &Api<Secret>,
    authority: &Authority,
    args: &Args,
) -> Result<(), SecretError> {
    let Some(service) = &args.store_service else {
        return Ok(());
    };
    let credentials = [
        (args.store_read_secret.as_str(), "read"),
        (args.store_push_secret.as_str(), "push"),
    ];
    secrets::in_cluster_store(api, authority, service, &args.namespace, credentials).await
}

/// The certificate by which the operator asks plugin pods.
pub(crate) fn own_tls(authority: &Authority) -> Result<ClientTls, StartError> {
    let subject = Subject::Identity(Identity::Operator);
    let leaf = authority.issue(&subject, OffsetDateTime::now_utc())?;
    Ok(ClientTls::from_pem(
        leaf.certificate.as_bytes(),
        leaf.key.as_bytes(),
        authority.certificate().as_bytes(),
    )?)
}
