//! A certificate authority of the benchmark's own, which issues as the platform's does.

use anyhow::Result;
use paperclip_bridge::tls::ClientTls;
use paperclip_identity::Identity;
use paperclip_identity_issue::{Material, Subject};
use time::OffsetDateTime;

/// Signs for everybody.
pub struct Authority(paperclip_identity_issue::Authority);

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let now = OffsetDateTime::now_utc();
        Ok(Self(paperclip_identity_issue::Authority::create(now)?))
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> &str {
        self.0.certificate()
    }

    /// A certificate of this identity and its key.
    pub fn issue(&self, identity: &Identity) -> Result<Material> {
        let subject = Subject::Identity(identity.clone());
        Ok(self.0.issue(&subject, OffsetDateTime::now_utc())?)
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
