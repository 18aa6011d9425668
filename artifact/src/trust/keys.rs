//! Public keys, as people write them down, and the check of a signature with one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sigstore_verify::crypto::{SigningScheme, VerificationKey};
use sigstore_verify::types::{DerPublicKey, SignatureBytes};

use super::{Cause, Refusal};

/// Longest text of a key; an RSA key of 4096 bits has 800 characters.
const MAX_TEXT: usize = 4096;

/// Longest signature, as text.
pub(super) const MAX_SIGNATURE: usize = 4096;

/// A public key in SubjectPublicKeyInfo form.
#[derive(Clone, Debug)]
pub struct PublicKey(DerPublicKey);

impl PublicKey {
    /// Reads a key: PEM, or the same in base64 without its frame, as npm registries publish it.
    ///
    /// # Errors
    /// When it is neither, or no key of a supported kind.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = |why: String| {
            let message = format!("cannot read a public key: {why}");
            Refusal::new(Cause::PolicyInvalid, message)
        };
        if text.len() > MAX_TEXT {
            let why = format!("it has {} bytes, wanted at most {MAX_TEXT}", text.len());
            return Err(invalid(why));
        }
        let key = if text.contains("-----BEGIN") {
            DerPublicKey::from_pem(text.trim()).map_err(|e| invalid(e.to_string()))?
        } else {
            let plain: String = text.split_whitespace().collect();
            let der = STANDARD.decode(plain).map_err(|e| invalid(e.to_string()))?;
            DerPublicKey::new(der)
        };
        VerificationKey::from_spki(&key).map_err(|e| invalid(e.to_string()))?;
        Ok(Self(key))
    }

    /// Whether a signature, in base64, is one over these bytes by an ECDSA P-256 key.
    ///
    /// # Errors
    /// Says why not.
    pub(super) fn verify(&self, payload: &[u8], signature: &str) -> Result<(), String> {
        if signature.len() > MAX_SIGNATURE {
            let length = signature.len();
            return Err(format!(
                "it has {length} characters, wanted at most {MAX_SIGNATURE}"
            ));
        }
        let signature = STANDARD.decode(signature).map_err(|e| e.to_string())?;
        self.verify_bytes(payload, &signature)
    }

    /// The same, with the signature as bytes.
    pub(super) fn verify_bytes(&self, payload: &[u8], signature: &[u8]) -> Result<(), String> {
        let key = VerificationKey::from_spki_with_scheme(&self.0, SigningScheme::EcdsaP256Sha256)
            .map_err(|e| e.to_string())?;
        let checked = key.verify(payload, &SignatureBytes::new(signature.to_vec()));
        checked.map_err(|e| e.to_string())
    }
}
