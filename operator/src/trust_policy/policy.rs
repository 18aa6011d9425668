//! From a `PaperclipTrustPolicy` to what a Job can check: every ConfigMap is read, and every
//! key, pattern and trust root parsed once.

use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{Api, ResourceExt};
use paperclip_artifact::trust::{
    Keyless, Pattern, Policy, PublicKey, Refusal, Requirement, TrustRoot, cosign::Signer, npm::Key,
};
use paperclip_crds::v1alpha1::{
    ConfigMapKey, CosignRequirement, IdentityRequirement, NpmSignatureRequirement,
    PaperclipTrustPolicy, Reason, TrustRequirement, TrustRootSource,
};
use serde::Deserialize;

use crate::{context::Context, plugin::Finding, reflectors::NotListed};

/// Answer of a registry under `/-/npm/v1/keys`.
#[derive(Deserialize)]
struct RegistryKeys {
    keys: Vec<RegistryKey>,
}

#[derive(Deserialize)]
struct RegistryKey {
    keyid: String,
    key: String,
    expires: Option<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A ConfigMap could not be read.
    #[error("reading a ConfigMap that a trust policy names")]
    Request(#[from] kube::Error),
    /// The plugins that it is for cannot be counted yet.
    #[error(transparent)]
    Watch(#[from] NotListed),
    /// A reference of it is missing or cannot be read, which a person must correct.
    #[error("{}", .0.message)]
    Unusable(Finding),
}

impl From<Refusal> for PolicyError {
    fn from(refusal: Refusal) -> Self {
        invalid(format!("{refusal}."))
    }
}

fn invalid(message: String) -> PolicyError {
    PolicyError::Unusable(Finding::no(Reason::PolicyInvalid, message))
}

/// Reads what the policy names, so that nothing is left to look up.
///
/// # Errors
/// When something is missing or no key, pattern or trust root.
pub async fn resolve(
    context: &Context,
    policy: &PaperclipTrustPolicy,
) -> Result<Policy, PolicyError> {
    let mut require = Vec::new();
    for requirement in &policy.spec.require {
        require.push(requirement_of(context, requirement).await?);
    }
    Ok(Policy {
        name: policy.name_any(),
        require,
    })
}

async fn requirement_of(
    context: &Context,
    requirement: &TrustRequirement,
) -> Result<Requirement, PolicyError> {
    // The schema wants exactly one.
    let TrustRequirement {
        npm_signature,
        npm_provenance,
        cosign,
    } = requirement;
    if let Some(wanted) = npm_signature {
        let keys = keys(context, wanted).await?;
        return Ok(Requirement::NpmSignature { keys });
    }
    if let Some(wanted) = npm_provenance {
        return Ok(Requirement::NpmProvenance(keyless(context, wanted).await?));
    }
    match cosign {
        Some(CosignRequirement { key: Some(key), .. }) => {
            PublicKey::parse(key)?;
            Ok(Requirement::Cosign(Signer::Key(key.clone())))
        }
        Some(CosignRequirement {
            keyless: Some(wanted),
            ..
        }) => {
            let wanted = keyless(context, wanted).await?;
            Ok(Requirement::Cosign(Signer::Keyless(wanted)))
        }
        _ => Err(invalid("A requirement names nothing to check.".into())),
    }
}

async fn keys(
    context: &Context,
    wanted: &NpmSignatureRequirement,
) -> Result<Vec<Key>, PolicyError> {
    let inline = wanted.keys.iter().map(|key| RegistryKey {
        keyid: key.keyid.clone(),
        key: key.key.clone(),
        expires: key.expires.clone(),
    });
    let mut found: Vec<_> = inline.collect();
    if let Some(reference) = &wanted.keys_from {
        let text = text(context, reference).await?;
        let keys: RegistryKeys = serde_json::from_str(&text).map_err(|error| {
            let ConfigMapKey { name, key } = reference;
            invalid(format!(
                "Key {key} of ConfigMap {name} holds no keys of a registry: {error}."
            ))
        })?;
        found.extend(keys.keys);
    }
    found.into_iter().map(checked).collect()
}

fn checked(
    RegistryKey {
        keyid,
        key,
        expires,
    }: RegistryKey,
) -> Result<Key, PolicyError> {
    PublicKey::parse(&key)?;
    let expires = expires.map(|text| match text.parse::<Timestamp>() {
        Ok(time) => Ok(time.as_second()),
        Err(error) => Err(invalid(format!("Key {keyid} expires at no time: {error}."))),
    });
    Ok(Key {
        expires: expires.transpose()?,
        keyid,
        key,
    })
}

async fn keyless(context: &Context, wanted: &IdentityRequirement) -> Result<Keyless, PolicyError> {
    let IdentityRequirement {
        issuer,
        identity,
        identity_regexp,
        source_repository,
        trust_root,
    } = wanted;
    let identity = match (identity, identity_regexp) {
        (Some(exact), None) => Pattern::Exact(exact.clone()),
        (None, Some(pattern)) => Pattern::Regexp(pattern.clone()),
        _ => return Err(invalid("An identity is named twice or not at all.".into())),
    };
    let trust_root = match trust_root {
        None => TrustRoot::PublicGood,
        Some(TrustRootSource {
            inline: Some(text), ..
        }) => TrustRoot::Inline(text.clone()),
        Some(TrustRootSource {
            config_map: Some(reference),
            ..
        }) => TrustRoot::Inline(text(context, reference).await?),
        Some(_) => return Err(invalid("A trust root names nothing.".into())),
    };
    let keyless = Keyless {
        issuer: issuer.clone(),
        identity,
        source_repository: source_repository.clone(),
        trust_root,
    };
    keyless.check()?;
    Ok(keyless)
}

/// Text of a key of a ConfigMap of the platform's namespace.
async fn text(
    context: &Context,
    ConfigMapKey { name, key }: &ConfigMapKey,
) -> Result<String, PolicyError> {
    let namespace = &context.args.namespace;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await?;
    let text = found.and_then(|found| found.data?.remove(key));
    text.ok_or_else(|| {
        let message = format!("ConfigMap {namespace}/{name} has no key {key}.");
        PolicyError::Unusable(Finding::no(Reason::ReferenceMissing, message))
    })
}
