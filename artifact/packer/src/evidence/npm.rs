//! Asks a registry what it has to say of a package, while it is being packed.
//!
//! Nothing is judged here, and a registry that signs nothing is no fault: whether a
//! signature is wanted is known only to the policies, which may come later.

use std::collections::BTreeMap;

use paperclip_artifact::limits;
use paperclip_artifact::trust::evidence::{
    Evidence, MAX_BUNDLE, MAX_SIGNATURES, NpmSignature, Subject,
};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::npm::registry::{self, FetchError, RegistryClient};

/// One answer with attestations: as many bundles as are looked at, each at its largest,
/// would be more than evidence may take.
const MAX_ATTESTATIONS: u64 = 2 * 1024 * 1024;

const ACCEPT: &str = "application/json";

/// The document of a package, as far as it is read.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    time: BTreeMap<String, Value>,
    #[serde(default)]
    versions: BTreeMap<String, Release>,
}

#[derive(Default, Deserialize)]
struct Release {
    #[serde(default)]
    dist: Distribution,
}

#[derive(Default, Deserialize)]
struct Distribution {
    #[serde(default)]
    signatures: Vec<NpmSignature>,
    attestations: Option<Value>,
}

#[derive(Deserialize)]
struct Attestations {
    #[serde(default)]
    attestations: Vec<Attestation>,
}

#[derive(Deserialize)]
struct Attestation {
    bundle: Box<RawValue>,
}

/// Evidence of one version of a package.
///
/// # Errors
/// When the registry does not answer, or with more than the bounds.
pub async fn of_npm(client: &RegistryClient, subject: Subject) -> Result<Evidence, FetchError> {
    let package = &subject.package;
    let encoded = registry::escaped(package);
    let document = client.url_of(package, &encoded);
    let Some(document) = get(client, &document, limits::METADATA).await? else {
        return Ok(Evidence {
            subject,
            ..Evidence::default()
        });
    };
    let mut document: Document = serde_json::from_slice(&document).unwrap_or_default();
    let Distribution {
        mut signatures,
        attestations,
    } = document
        .versions
        .remove(&subject.version)
        .unwrap_or_default()
        .dist;
    signatures.truncate(MAX_SIGNATURES);
    let npm_attestations = match attestations {
        None => Vec::new(),
        Some(_) => {
            let place = format!("-/npm/v1/attestations/{encoded}@{}", subject.version);
            let url = client.url_of(package, &place);
            let answer = get(client, &url, MAX_ATTESTATIONS).await?;
            answer.map_or_else(Vec::new, |answer| bundles(&answer))
        }
    };
    Ok(Evidence {
        published: document.time.get(&subject.version).and_then(seconds),
        npm_signatures: signatures,
        npm_attestations,
        subject,
        ..Evidence::default()
    })
}

/// What is behind a URL of the registry; `None` where it has no such thing.
async fn get(
    client: &RegistryClient,
    url: &Url,
    limit: u64,
) -> Result<Option<Vec<u8>>, FetchError> {
    match client.content(url, ACCEPT, limit).await {
        Ok(content) => Ok(Some(content)),
        Err(FetchError::Status { status, .. }) if is_absent(status) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
    )
}

/// Bundles of an answer; one that is too large is left out, since it would not be read.
fn bundles(answer: &[u8]) -> Vec<Box<RawValue>> {
    let found: Option<Attestations> = serde_json::from_slice(answer).ok();
    let found = found.into_iter().flat_map(|found| found.attestations);
    found
        .map(|attestation| attestation.bundle)
        .filter(|bundle| bundle.get().len() <= MAX_BUNDLE)
        .take(MAX_SIGNATURES)
        .collect()
}

/// Seconds since 1970 of a time as npm writes it.
fn seconds(time: &Value) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc3339(time.as_str()?);
    time.ok().map(|time| time.timestamp())
}
