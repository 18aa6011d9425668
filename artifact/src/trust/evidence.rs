//! Evidence: what a registry said of a package when it was packed, unjudged.
//!
//! It is kept with the artifact as a referrer, so that a policy that comes later is checked
//! against it without asking the registry again. It proves nothing by itself.

use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Refusal;
use crate::failure::FailureReason;
use crate::integrity;

/// Media type of the evidence, and artifact type of its referrer.
pub const MEDIA_TYPE: &str = "application/vnd.paperclip.evidence.v1+json";

/// Most signatures of one kind that are looked at.
pub const MAX_SIGNATURES: usize = 32;

/// Longest certificate below a tag, and longest log entry; those of cosign have 3 and 6 KiB.
pub const MAX_ANNOTATION: usize = 32 * 1024;

/// One bundle. Those of npm have some 20 KiB.
pub const MAX_BUNDLE: usize = 512 * 1024;

/// All evidence of one artifact, as JSON.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the evidence is about. It comes from the artifact, never from the evidence.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Name of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Integrity of its tarball.
    pub integrity: String,
    /// Digest of the image in its source registry, where it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
}

/// A signature of an npm registry, as its metadata lists it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct NpmSignature {
    /// Id of the key.
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

/// A cosign signature in the layout of version 2: a payload and a signature over it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SimpleSignature {
    /// The signed text, in base64: its bytes are what is signed.
    pub payload: String,
    /// The signature, in base64.
    pub signature: String,
    /// Who signed, where it was signed without a key of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<LoggedCertificate>,
}

/// A certificate that was good for minutes, and the log that saw the signature in them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LoggedCertificate {
    /// The signer's certificate, as PEM.
    pub certificate: String,
    /// The log's entry and promise, as JSON of cosign.
    pub log_entry: String,
}

/// What a registry said. Equal answers give equal bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What it is about.
    pub subject: Subject,
    /// When the version was published, in seconds since 1970, by the registry's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<i64>,
    /// `dist.signatures` of the version.
    #[serde(default)]
    pub npm_signatures: Vec<NpmSignature>,
    /// Sigstore bundles of the version's attestations.
    #[serde(default)]
    pub npm_attestations: Vec<Box<RawValue>>,
    /// Cosign signatures of the source image, in the tag layout.
    #[serde(default)]
    pub simple_signatures: Vec<SimpleSignature>,
    /// Sigstore bundles attached to the source image.
    #[serde(default)]
    pub bundles: Vec<Box<RawValue>>,
}

impl Evidence {
    /// Reads recorded evidence and ties it to the artifact it was found at.
    ///
    /// # Errors
    /// When it is too large, is none, or speaks of something else.
    pub fn parse(text: &[u8], subject: &Subject) -> Result<Self, Refusal> {
        let evidence = Self::read(text)?;
        evidence.check_subject(subject)?;
        Ok(evidence)
    }

    /// Reads recorded evidence, whatever it is about.
    ///
    /// # Errors
    /// When it is too large or is none.
    pub fn read(text: &[u8]) -> Result<Self, Refusal> {
        let invalid = |why: String| Refusal::new(FailureReason::SignatureInvalid, why);
        if text.len() > MAX_BYTES {
            let found = text.len();
            return Err(invalid(format!(
                "the evidence has {found} bytes, wanted at most {MAX_BYTES}"
            )));
        }
        serde_json::from_slice(text)
            .map_err(|e| invalid(format!("the evidence cannot be read: {e}")))
    }

    /// Checks that it is about this artifact.
    ///
    /// # Errors
    /// When it speaks of something else.
    pub fn check_subject(&self, subject: &Subject) -> Result<(), Refusal> {
        let found = &self.subject;
        let is_same_tarball =
            integrity::sha512(&found.integrity) == integrity::sha512(&subject.integrity);
        let is_same = found.package == subject.package
            && found.version == subject.version
            && found.source_digest == subject.source_digest;
        if !is_same || !is_same_tarball {
            let message = format!("the evidence is about {found}, wanted {subject}");
            return Err(Refusal::new(FailureReason::SignatureInvalid, message));
        }
        Ok(())
    }

    /// The evidence as it is recorded.
    ///
    /// # Errors
    /// When it is larger than what would be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        if text.is_empty() || text.len() > MAX_BYTES {
            let message = format!(
                "the registry sent {} bytes of signatures, wanted at most {MAX_BYTES}",
                text.len()
            );
            return Err(Refusal::new(FailureReason::SignatureInvalid, message));
        }
        Ok(text)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            package,
            version,
            integrity,
            ..
        } = self;
        write!(formatter, "{package}@{version} ({integrity})")
    }
}
