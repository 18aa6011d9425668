//! Pull tokens: what a plugin's pods show to the artifact store in the cluster, each good for
//! the repositories of its plugin alone.
//!
//! The store knows the public half of one key and checks a token by itself, so nobody is asked
//! when a pod starts. A token is a pure function of key, repositories and month: making it
//! again changes nothing, and there is no state to keep.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use paperclip_oci::Digest;
use rcgen::{KeyPair, PKCS_ED25519};
use serde::Serialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Issuer of the tokens, as in the store's configuration.
const ISSUER: &str = "paperclip-operator";
/// Whom tokens are for; the store's configuration says the same.
const AUDIENCE: &str = "paperclip-store";
/// Period after which a token is replaced.
const PERIOD: Duration = Duration::days(30);
/// Validity of a token from the begin of its period. At the end of that it has as long left
/// as a new certificate has, so pods start for months with the operator away.
const LIFE: Duration = Duration::days(120);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A key could not be made, or the stored one is none.
    #[error("preparing the key of the artifact store's pull tokens")]
    Key(#[source] rcgen::Error),
    /// Signing failed.
    #[error("signing a pull token of the artifact store")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A new key: the private half as PEM, and the set of public keys that the store reads.
#[derive(Clone)]
pub struct Material {
    /// PKCS #8, as PEM.
    pub key: String,
    /// A JSON Web Key Set (RFC 7517).
    pub key_set: String,
}

/// Gives tokens out.
pub struct PullTokens {
    key: EncodingKey,
    id: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    access: Vec<Access<'a>>,
}

/// A right, as the distribution registry reads it.
#[derive(Serialize)]
struct Access<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    actions: [&'a str; 1],
}

impl PullTokens {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn generate() -> Result<Material, TokenError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(TokenError::Key)?;
        let public = key.public_key_raw();
        let set = json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": id_of(public), "x": BASE64_URL_SAFE_NO_PAD.encode(public),
        }]});
        Ok(Material {
            key: key.serialize_pem(),
            key_set: set.to_string(),
        })
    }

    /// Takes a key made before.
    ///
    /// # Errors
    /// When it is none.
    pub fn load(pem: &str) -> Result<Self, TokenError> {
        let key = KeyPair::from_pem(pem).map_err(TokenError::Key)?;
        Ok(Self {
            id: id_of(key.public_key_raw()),
            key: EncodingKey::from_ed_der(key.serialized_der()),
        })
    }

    /// A token that pulls from these repositories and does nothing else, for `subject`.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn issue(
        &self,
        subject: &str,
        repositories: &BTreeSet<&str>,
        now: OffsetDateTime,
    ) -> Result<String, TokenError> {
        let period = PERIOD.whole_seconds();
        let begin = now.unix_timestamp().div_euclid(period) * period;
        let access = repositories.iter().map(|name| Access {
            kind: "repository",
            name,
            actions: ["pull"],
        });
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: subject,
            iat: begin,
            nbf: begin,
            exp: begin + LIFE.whole_seconds(),
            access: access.collect(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(TokenError::Sign)
    }
}

/// Name of a key, from its public half.
fn id_of(public: &[u8]) -> String {
    Digest::of(public).short(32).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
    use serde_json::Value;

    fn at(days: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::days(20_000) + Duration::days(days)
    }

    fn read(material: &Material, token: &str) -> Value {
        let set: JwkSet = serde_json::from_str(&material.key_set).unwrap();
        let id = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(set.find(&id).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        jsonwebtoken::decode::<Value>(token, &key, &validation)
            .unwrap()
            .claims
    }

    #[test]
    fn a_token_names_its_repositories_and_is_checked_by_the_key_set() {
        let material = PullTokens::generate().unwrap();
        let tokens = PullTokens::load(&material.key).unwrap();
        let repositories = BTreeSet::from(["plugins/a", "owners/1/b"]);
        let token = tokens.issue("shop/commerce", &repositories, at(0)).unwrap();
        let claims = read(&material, &token);
        let right = |name| json!({"type": "repository", "name": name, "actions": ["pull"]});
        assert_eq!(
            claims["access"],
            json!([right("owners/1/b"), right("plugins/a")])
        );
        assert_eq!(claims["sub"], "shop/commerce");
    }

    #[test]
    fn a_token_changes_once_a_period_and_lives_three_months_at_least() {
        let material = PullTokens::generate().unwrap();
        let tokens = PullTokens::load(&material.key).unwrap();
        let one = BTreeSet::from(["plugins/a"]);
        let made: Vec<_> = (0..90)
            .map(|day| tokens.issue("x", &one, at(day)).unwrap())
            .collect();
        let mut different = made.clone();
        different.dedup();
        assert!((3..=4).contains(&different.len()), "{}", different.len());
        for (day, token) in (0..).zip(&made) {
            let left = read(&material, token)["exp"].as_i64().unwrap() - at(day).unix_timestamp();
            assert!(left >= Duration::days(90).whole_seconds(), "{left}");
        }
    }
}
