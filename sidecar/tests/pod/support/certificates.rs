//! A CA of the test's own and leaves for identities.

use paperclip_proto::{identity::Identity, tls::ClientTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
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
        let mut params = CertificateParams::default();
        let uri = identity.to_string().try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
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
        let leaf = self.issue(identity);
        ClientTls::from_pem(
            leaf.certificate.as_bytes(),
            leaf.key.as_bytes(),
            leaf.ca.as_bytes(),
        )
        .unwrap()
    }
}
