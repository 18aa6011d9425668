//! The platform's own Secrets: the authority, and what the artifact store in the cluster
//! needs. Made once by the leader, never overwritten; only the store's leaf is renewed.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use paperclip_crds::labels;
use paperclip_identity_issue::{Authority, IssueError, Material, Subject, is_due};
use paperclip_oci::client::Credentials;
use time::OffsetDateTime;

use crate::{
    apply::{ApplyError, apply},
    pull_tokens::{PullTokens, TokenError},
};

/// Secret that holds the authority.
pub const AUTHORITY: &str = "paperclip-ca";
/// Secret that holds the store's leaf.
pub const STORE_TLS: &str = "paperclip-store-tls";
/// Secret that holds the key of pull tokens, and its public half for the store.
pub const STORE_TOKENS: &str = "paperclip-store-tokens";

/// Why the platform's Secrets are not there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server refused, or could not be reached.
    #[error("reading or creating Secret {name}")]
    Request {
        /// Name of the Secret.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// A Secret lacks a key.
    #[error("Secret {name} has no key `{key}`, or its value is no text")]
    Key {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Ca(#[from] IssueError),
    /// The key of pull tokens could not be made or read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A password could not be hashed.
    #[error("hashing the password of the artifact store")]
    Hash(#[source] bcrypt::BcryptError),
    /// The store's leaf could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The text under a key of a Secret.
///
/// # Errors
/// When the key is missing or no text.
pub fn text(secret: &Secret, key: &'static str) -> Result<String, SecretError> {
    secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        .ok_or_else(|| SecretError::Key {
            name: secret.name_any(),
            key,
        })
}

/// A Secret of ours with these texts.
#[must_use]
pub fn build_secret<'a>(
    metadata: ObjectMeta,
    type_: &str,
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Secret {
    let data = texts
        .into_iter()
        .map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())))
        .collect();
    Secret {
        metadata,
        type_: Some(type_.into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Type of Secrets with a certificate.
pub const TLS: &str = "kubernetes.io/tls";
/// Type of all other Secrets.
pub const OPAQUE: &str = "Opaque";

/// Metadata of a Secret of the platform's own.
pub fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        labels: Some(BTreeMap::from([(
            labels::MANAGED_BY.into(),
            labels::OPERATOR.into(),
        )])),
        ..ObjectMeta::default()
    }
}

/// The platform's authority, made now if this is the first start.
///
/// # Errors
/// When the API server refuses or the stored authority is unusable.
pub async fn authority(api: &Api<Secret>) -> Result<Authority, SecretError> {
    let secret = create_once(api, AUTHORITY, || {
        let made = Authority::generate(OffsetDateTime::now_utc())?;
        let texts = [
            ("tls.crt", made.certificate.as_str()),
            ("tls.key", &made.key),
        ];
        Ok(build_secret(metadata(AUTHORITY), TLS, texts))
    })
    .await?;
    let material = Material {
        certificate: text(&secret, "tls.crt")?,
        key: text(&secret, "tls.key")?,
    };
    Ok(Authority::load(&material)?)
}

/// Makes the credentials of the store in the cluster and keeps its certificate fresh.
///
/// # Errors
/// When the API server refuses.
pub async fn in_cluster_store(
    api: &Api<Secret>,
    authority: &Authority,
    service: &str,
    namespace: &str,
    credentials: [(&str, &str); 2],
) -> Result<(), SecretError> {
    for (name, user) in credentials {
        create_once(api, name, || {
            build_credential(name, user, authority.certificate())
        })
        .await?;
    }
    let names =
        ["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{service}.{namespace}{suffix}"));
    let subject = Subject::Dns([service.to_owned()].into_iter().chain(names).collect());
    let now = OffsetDateTime::now_utc();
    if let Some(desired) = leaf(api, metadata(STORE_TLS), &subject, authority, now).await? {
        apply(api, &desired).await?;
    }
    Ok(())
}

/// The issuer of pull tokens for the store in the cluster; its key is created if this is the
/// first start.
///
/// # Errors
/// When the API server refuses or the stored key is unusable.
pub async fn tokens(api: &Api<Secret>) -> Result<PullTokens, SecretError> {
    let secret = create_once(api, STORE_TOKENS, || {
        let made = PullTokens::generate()?;
        let texts = [("key.pem", &*made.key), ("jwks.json", &*made.key_set)];
        Ok(build_secret(metadata(STORE_TOKENS), OPAQUE, texts))
    })
    .await?;
    Ok(PullTokens::load(&text(&secret, "key.pem")?)?)
}

/// The Secret with a new leaf, if the one that is there is missing or due.
///
/// # Errors
/// When the Secret cannot be read or the leaf not be issued.
pub async fn leaf(
    api: &Api<Secret>,
    metadata: ObjectMeta,
    subject: &Subject,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<Option<Secret>, SecretError> {
    let name = metadata.name.clone().unwrap_or_default();
    let found = api
        .get_opt(&name)
        .await
        .map_err(|source| SecretError::Request { name, source })?;
    let is_ours = |found: &Secret| {
        let owners = found.owner_references();
        let wanted = metadata.owner_references.iter().flatten();
        wanted
            .into_iter()
            .all(|owner| owners.iter().any(|found| found.uid == owner.uid))
    };
    if let Some(found) = &found
        && is_ours(found)
        && let (Ok(certificate), Ok(under)) = (text(found, "tls.crt"), text(found, "ca.crt"))
        && !is_due(&certificate, &under, authority.certificate(), now)
    {
        return Ok(None);
    }
    let material = authority.issue(subject, now)?;
    let texts = [
        ("tls.crt", material.certificate.as_str()),
        ("tls.key", &material.key),
        ("ca.crt", authority.certificate()),
    ];
    Ok(Some(build_secret(metadata, TLS, texts)))
}

/// The credential in a Secret of the store, and the authority to trust.
///
/// # Errors
/// When the Secret is missing or incomplete.
pub async fn credential(
    api: &Api<Secret>,
    name: &str,
) -> Result<(Credentials, Option<String>), SecretError> {
    let secret = api.get(name).await.map_err(|source| SecretError::Request {
        name: name.to_owned(),
        source,
    })?;
    let credentials = Credentials {
        username: text(&secret, "username")?,
        password: text(&secret, "password")?,
    };
    Ok((credentials, text(&secret, "ca.crt").ok()))
}

/// The least that bcrypt has. The store's registry works it out anew for every request, which at
/// the usual cost is most of the time that a packing spends with it. A cost is there to make words
/// that people choose harder to guess; nobody guesses 244 random bits at any.
const COST: u32 = 4;

fn build_credential(name: &str, user: &str, authority: &str) -> Result<Secret, SecretError> {
    let password = random_password();
    let hash = bcrypt::hash_with_result(&password, COST)
        .map_err(SecretError::Hash)?
        .format_for_version(bcrypt::Version::TwoY);
    let line = format!("{user}:{hash}\n");
    let texts = [
        ("username", user),
        ("password", &password),
        ("htpasswd", &line),
        ("ca.crt", authority),
    ];
    Ok(build_secret(metadata(name), OPAQUE, texts))
}

/// 244 bits of the system's randomness, as hex.
fn random_password() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    half() + &half()
}

/// The Secret of this name, made now if there is none.
///
/// # Errors
/// When the API server refuses, or it cannot be made.
pub async fn create_once(
    api: &Api<Secret>,
    name: &str,
    build: impl FnOnce() -> Result<Secret, SecretError>,
) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Request {
        name: name.to_owned(),
        source,
    };
    if let Some(found) = api.get_opt(name).await.map_err(failed)? {
        return Ok(found);
    }
    match api.create(&PostParams::default(), &build()?).await {
        Err(kube::Error::Api(status)) if status.code == 409 => api.get(name).await.map_err(failed),
        created => created.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_matches_its_own_htpasswd_line() {
        let secret = build_credential("paperclip-store-read", "read", "pem").unwrap();
        let line = text(&secret, "htpasswd").unwrap();
        let (user, hash) = line.trim_end().split_once(':').unwrap();
        assert_eq!(user, "read");
        assert!(bcrypt::verify(text(&secret, "password").unwrap(), hash).unwrap());
    }
}
