//! The authority that all peers of a platform trust.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{Name, Statement, Subject, subject::BACKDATE};

/// Life of the authority itself.
const AUTHORITY_LIFE: Duration = Duration::days(3650);

/// Why no certificate came about.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Making or signing failed.
    #[error("issuing a certificate for {subject}")]
    Issue {
        /// The subject.
        subject: String,
        /// The library's error.
        source: rcgen::Error,
    },
    /// The stored authority is unusable.
    #[error("loading the certificate authority from its Secret")]
    Load(#[source] rcgen::Error),
}

/// A certificate and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Material")
    }
}

/// The authority that all peers of this platform trust.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority, to be kept and loaded.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn generate(now: OffsetDateTime) -> Result<Material, IssueError> {
        let failed = |source| IssueError::Issue {
            subject: "the platform's own authority".into(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = parameters("Paperclip plugin platform");
        parameters.not_before = now - BACKDATE;
        parameters.not_after = now + AUTHORITY_LIFE;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        Ok(Material {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Takes an authority made before.
    ///
    /// # Errors
    /// When certificate or key are not PEM of a usable kind.
    pub fn load(material: &Material) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(&material.key).map_err(IssueError::Load)?;
        let issuer =
            Issuer::from_ca_cert_pem(&material.certificate, key).map_err(IssueError::Load)?;
        Ok(Self {
            certificate: material.certificate.clone(),
            issuer,
        })
    }

    /// An authority that is kept nowhere.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn create(now: OffsetDateTime) -> Result<Self, IssueError> {
        Self::load(&Self::generate(now)?)
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key as PKCS #8 in DER, for keys that are derived from it.
    #[must_use]
    pub fn private_key(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// Issues a leaf with a new key.
    ///
    /// # Errors
    /// When the cryptography fails or a name has letters that no certificate takes.
    pub fn issue(&self, subject: &Subject, now: OffsetDateTime) -> Result<Material, IssueError> {
        self.sign(&subject.statement(now))
    }

    /// Issues a leaf that states just this.
    ///
    /// # Errors
    /// When the cryptography fails or a name has letters that no certificate takes.
    pub fn sign(&self, statement: &Statement) -> Result<Material, IssueError> {
        self.try_sign(statement).map_err(|source| {
            let names: Vec<String> = statement.names.iter().map(Name::to_string).collect();
            let subject = names.join(", ");
            IssueError::Issue { subject, source }
        })
    }

    fn try_sign(&self, statement: &Statement) -> Result<Material, rcgen::Error> {
        let key = KeyPair::generate()?;
        // Another name than the authority's, or OpenSSL takes every leaf for one that signed itself.
        let mut parameters = parameters("Paperclip");
        parameters.not_before = statement.begin;
        parameters.not_after = statement.end;
        parameters.subject_alt_names = alternatives(&statement.names)?;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = purposes(statement);
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Material {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name;
    parameters
}

fn alternatives(names: &[Name]) -> Result<Vec<SanType>, rcgen::Error> {
    let alternative = |name: &Name| {
        Ok(match name {
            Name::Uri(name) => SanType::URI(name.as_str().try_into()?),
            Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        })
    };
    names.iter().map(alternative).collect()
}

fn purposes(statement: &Statement) -> Vec<ExtendedKeyUsagePurpose> {
    let client = statement
        .is_client
        .then_some(ExtendedKeyUsagePurpose::ClientAuth);
    let server = statement
        .is_server
        .then_some(ExtendedKeyUsagePurpose::ServerAuth);
    client.into_iter().chain(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_identity::{Identity, identity_of};
    use x509_parser::pem::parse_x509_pem;

    #[test]
    fn a_leaf_carries_the_identity_it_was_issued_for() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let identity = Identity::Plugin {
            namespace: "shop".into(),
            name: "commerce".into(),
        };
        let authority = Authority::create(now).unwrap();
        let subject = Subject::Identity(identity.clone());
        let leaf = authority.issue(&subject, now).unwrap();
        let (_, pem) = parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        assert_eq!(identity_of(&pem.contents.into()).unwrap(), identity);
    }

    #[test]
    fn a_name_that_no_certificate_takes_is_told() {
        let authority = Authority::create(OffsetDateTime::now_utc()).unwrap();
        let subject = Subject::Dns(vec!["käse.test".into()]);
        let refused = authority.issue(&subject, OffsetDateTime::now_utc());
        let words = refused.unwrap_err().to_string();
        assert_eq!(words, "issuing a certificate for käse.test");
    }
}
