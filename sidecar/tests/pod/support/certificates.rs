//! A CA of the test's own and leaves for identities.

use paperclip_bridge::tls::ClientTls;
use paperclip_identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

pub struct Leaf {
    pub certificate: String,
    pub key: String,
    pub ca: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Other than a leaf's, or OpenSSL takes every leaf for one that signed itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn issue(&self, identity: &Identity) -> Leaf {
        self.issue_for(&[uri(&identity.to_string())], Validity::Now)
    }

    /// A leaf with these names.
    pub fn issue_for(&self, names: &[SanType], validity: Validity) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        match validity {
            Validity::Now => {}
            Validity::Past => params.not_after = date_time_ymd(2024, 1, 1),
            Validity::Future => params.not_before = date_time_ymd(2100, 1, 1),
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
            ca: self.0.pem(),
        }
    }

    pub fn client(&self, identity: &Identity) -> ClientTls {
        self.issue(identity).client()
    }
}

/// When a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Past,
    Future,
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

impl Leaf {
    pub fn client(&self) -> ClientTls {
        let [certificate, key, ca] = [&self.certificate, &self.key, &self.ca].map(String::as_bytes);
        ClientTls::from_pem(certificate, key, ca).unwrap()
    }
}
