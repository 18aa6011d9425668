//! The certificate authority: makes itself once, issues leaves, says when a leaf is due.
//!
//! Nothing here knows a cluster. Keys are ECDSA P-256; a leaf of the bridge lives 90 days and is
//! renewed after 60, so a month of outage breaks nothing.

use paperclip_identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{pem::parse_x509_pem, time::ASN1Time};

const AUTHORITY_LIFE: Duration = Duration::days(3650);
const LEAF_LIFE: Duration = Duration::days(90);
/// The artifact store reads its certificate when it starts, and starts when its node is emptied
/// or the chart is upgraded: it must not run out in between.
const SERVER_LIFE: Duration = Duration::days(5 * 365);
/// Clocks of nodes differ.
const BACKDATE: Duration = Duration::minutes(5);

/// Why no certificate came about.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Making or signing failed.
    #[error("issuing a certificate for {subject}")]
    Issue {
        /// Who it was for.
        subject: String,
        /// What the library said.
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

impl std::fmt::Debug for Material {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Material")
    }
}

/// Whom a leaf is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A peer of the bridge, by its URI name.
    Identity(Identity),
    /// A server reached by DNS names.
    Dns(Vec<String>),
}

impl Subject {
    fn names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        match self {
            Self::Identity(identity) => Ok(vec![SanType::URI(identity.to_string().try_into()?)]),
            Self::Dns(names) => names
                .iter()
                .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)))
                .collect(),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(formatter),
            Self::Dns(names) => formatter.write_str(&names.join(", ")),
        }
    }
}

/// The authority that all peers of this platform trust.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn generate(now: OffsetDateTime) -> Result<Material, IssueError> {
        let failed = |source| IssueError::Issue {
            subject: "the platform's own authority".into(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = parameters("Paperclip plugin platform", now, AUTHORITY_LIFE);
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
        let failed = |source| IssueError::Issue {
            subject: subject.to_string(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let life = match subject {
            Subject::Identity(_) => LEAF_LIFE,
            Subject::Dns(_) => SERVER_LIFE,
        };
        let mut parameters = parameters("Paperclip", now, life);
        parameters.subject_alt_names = subject.names().map_err(failed)?;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match subject {
            Subject::Identity(Identity::Host { .. } | Identity::Operator) => {
                vec![ExtendedKeyUsagePurpose::ClientAuth]
            }
            Subject::Identity(Identity::Plugin { .. }) | Subject::Dns(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth]
            }
        };
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Material {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn parameters(name: &str, now: OffsetDateTime, life: Duration) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name;
    parameters.not_before = now - BACKDATE;
    parameters.not_after = now + life;
    parameters
}

/// When a leaf ends; none when it is no certificate.
#[must_use]
pub fn expiry(certificate: &str) -> Option<OffsetDateTime> {
    validity(certificate).map(|(_, end)| end)
}

/// When a leaf begins and ends.
fn validity(certificate: &str) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let at = |time: ASN1Time| OffsetDateTime::from_unix_timestamp(time.timestamp()).ok();
    let validity = parsed.validity();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

/// Whether a leaf is to be issued anew: it is unreadable, past two thirds of its life, or of
/// another authority; or it is yet to begin, which is what a clock leaves behind that was wrong
/// for a while.
#[must_use]
pub fn is_due(certificate: &str, issued_under: &str, authority: &str, now: OffsetDateTime) -> bool {
    issued_under != authority
        || validity(certificate)
            .is_none_or(|(begin, end)| now < begin || now >= end - (end - begin) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn leaf() -> (Authority, Material) {
        let authority = Authority::load(&Authority::generate(now()).unwrap()).unwrap();
        let subject = Subject::Identity(Identity::Plugin {
            namespace: "shop".into(),
            name: "commerce".into(),
        });
        let leaf = authority.issue(&subject, now()).unwrap();
        (authority, leaf)
    }

    #[test]
    fn a_leaf_carries_the_identity_it_was_issued_for() {
        let (_, leaf) = leaf();
        let (_, pem) = parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        let identity = paperclip_identity::identity_of(&pem.contents.into()).unwrap();
        assert_eq!(
            identity.to_string(),
            "spiffe://paperclip.ing/ns/shop/plugin/commerce"
        );
    }

    #[test]
    fn a_leaf_is_renewed_after_two_thirds_of_its_life() {
        let (authority, leaf) = leaf();
        let own = authority.certificate();
        let due = |days| is_due(&leaf.certificate, own, own, now() + Duration::days(days));
        assert!(!due(0));
        assert!(!due(59));
        assert!(due(-1), "it is yet to begin");
        assert!(due(60));
        assert_eq!(expiry(&leaf.certificate), Some(now() + Duration::days(90)));
    }

    #[test]
    fn a_leaf_of_another_authority_or_an_unreadable_one_is_due() {
        let (authority, leaf) = leaf();
        assert!(is_due(
            &leaf.certificate,
            "other",
            authority.certificate(),
            now()
        ));
        assert!(is_due(
            "rubbish",
            authority.certificate(),
            authority.certificate(),
            now()
        ));
    }
}
