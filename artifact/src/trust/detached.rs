//! A signature below a tag that a certificate vouches for, as a bundle.
//!
//! Cosign 2 writes certificate and log entry beside the signature, as annotations. The first
//! version of Sigstore's bundles holds the same facts: made into one, they are judged by the
//! same code as any other bundle. Nothing is checked here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Refusal;
use super::evidence::LoggedCertificate;

use crate::failure::FailureReason;

/// Media type of bundles that may do with the log's promise, which is all that cosign kept.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";

/// What the log said, as cosign keeps it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LogEntry {
    /// The log's signature over the payload, in base64.
    signed_entry_timestamp: String,
    payload: LogPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogPayload {
    /// The entry, in base64.
    body: String,
    /// Seconds since 1970.
    integrated_time: i64,
    log_index: i64,
    /// SHA-256 of the log's key, in hexadecimal digits.
    #[serde(rename = "logID")]
    log_id: String,
}

/// The bundle of a signature over `payload`.
pub(super) fn bundle(
    payload: &[u8],
    signature: &str,
    vouched: &LoggedCertificate,
) -> Result<Vec<u8>, Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    let certificate = CertificateDer::from_pem_slice(vouched.certificate.as_bytes())
        .map_err(|e| invalid(format!("the signature's certificate cannot be read: {e}")))?;
    let entry: LogEntry = serde_json::from_str(&vouched.log_entry)
        .map_err(|e| invalid(format!("the signature's log entry cannot be read: {e}")))?;
    let log = hex::decode(&entry.payload.log_id)
        .map_err(|e| invalid(format!("the signature's log cannot be told: {e}")))?;
    let bundle = json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "x509CertificateChain": {
                "certificates": [{ "rawBytes": STANDARD.encode(certificate) }],
            },
            "tlogEntries": [{
                "logIndex": entry.payload.log_index.to_string(),
                "logId": { "keyId": STANDARD.encode(log) },
                // The kind that cosign asks for; an entry of another is none the library reads.
                "kindVersion": { "kind": "hashedrekord", "version": "0.0.1" },
                "integratedTime": entry.payload.integrated_time.to_string(),
                "inclusionPromise": { "signedEntryTimestamp": entry.signed_entry_timestamp },
                "canonicalizedBody": entry.payload.body,
            }],
        },
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": STANDARD.encode(Sha256::digest(payload)),
            },
            "signature": signature,
        },
    });
    Ok(bundle.to_string().into_bytes())
}
