//! A certificate authority of the benchmark's own.

use anyhow::Result;
use paperclip_bridge::tls::ClientTls;
use paperclip_identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Signs for everybody.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Leaf {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        // Unlike that of its leaves, which OpenSSL would otherwise take for self-signed.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "benchmark");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for client and server alike.
    pub fn issue(&self, identity: &Identity) -> Result<Leaf> {
        let mut params = CertificateParams::default();
        let name = identity.to_string().try_into()?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        Ok(Leaf {
            certificate: params.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// What a client of this identity needs.
    pub fn client(&self, identity: &Identity) -> Result<ClientTls> {
        let leaf = self.issue(identity)?;
        Ok(ClientTls::from_pem(
            leaf.certificate.as_bytes(),
            leaf.key.as_bytes(),
            self.certificate().as_bytes(),
        )?)
    }
}
