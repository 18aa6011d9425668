//! Keys, as people write them down: public ones, which check a signature, and the private one
//! of the platform, which makes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_oci::digest::Digest;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sigstore_verify::crypto::{KeyPair, SigningScheme, VerificationKey};
use sigstore_verify::types::{DerPublicKey, SignatureBytes};

use super::Refusal;

use crate::failure::FailureReason;

/// Longest text of a key; an RSA key of 4096 bits has 800 characters.
const MAX_TEXT: usize = 4096;

/// Longest signature, as text.
pub(super) const MAX_SIGNATURE: usize = 4096;

/// Most keys that are read of one text.
const MAX_KEYS: usize = 16;

/// End of a key in PEM.
const PEM_END: &str = "-----END PUBLIC KEY-----";

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
            Refusal::new(FailureReason::PolicyInvalid, message)
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

    /// Reads keys in PEM, one after the other.
    ///
    /// # Errors
    /// When one of them is none, there is none, or there are too many.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, Refusal> {
        let keys: Vec<_> = text
            .split_inclusive(PEM_END)
            .filter(|key| !key.trim().is_empty())
            .collect();
        if keys.is_empty() || keys.len() > MAX_KEYS {
            let found = keys.len();
            let message = format!("found {found} public keys, wanted 1 to {MAX_KEYS} in PEM");
            return Err(Refusal::new(FailureReason::PolicyInvalid, message));
        }
        keys.into_iter().map(Self::parse).collect()
    }

    /// The key in PEM, as cosign wants it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let pem = self.0.to_pem();
        format!("{}\n", pem.trim_end())
    }

    /// Hash of the key: its name.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
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

/// A private key, ECDSA on the curve P-256.
pub struct SigningKey {
    pair: KeyPair,
    public: PublicKey,
}

/// Why a private key cannot be used. It says nothing of the key.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the signing key: {0}, wanted an ECDSA P-256 key as PKCS #8 in PEM")]
pub struct InvalidSigningKey(&'static str);

impl SigningKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// When it is none of the wanted kind.
    pub fn parse(pem: &[u8]) -> Result<Self, InvalidSigningKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| InvalidSigningKey("it is no PKCS #8 in PEM"))?;
        let pair = KeyPair::from_pkcs8_der(der.secret_pkcs8_der())
            .map_err(|_| InvalidSigningKey("it cannot be read"))?;
        if pair.default_scheme() != SigningScheme::EcdsaP256Sha256 {
            return Err(InvalidSigningKey("it is of another kind"));
        }
        let public = pair.public_key_der();
        let public = public.map_err(|_| InvalidSigningKey("it has no public key"))?;
        Ok(Self {
            pair,
            public: PublicKey(public),
        })
    }

    /// The key that checks its signatures.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs bytes; the signature is in base64.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub(super) fn sign(&self, payload: &[u8]) -> Result<String, InvalidSigningKey> {
        let signed = self.pair.sign(payload);
        let signed = signed.map_err(|_| InvalidSigningKey("it does not sign"))?;
        Ok(STANDARD.encode(signed.as_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.public.id())
    }
}
