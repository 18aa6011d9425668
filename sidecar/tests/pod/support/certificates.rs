//! An authority of the test's own, which issues as the platform's does.

use paperclip_bridge::tls::ClientTls;
use paperclip_identity::Identity;
use paperclip_identity_issue::{Material, Name, Statement, Subject};
use time::{Duration, OffsetDateTime};

pub struct Authority(paperclip_identity_issue::Authority);

/// A certificate, its key, and the authority that its holder trusts, as PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
    pub ca: String,
}

impl Authority {
    pub fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        Self(paperclip_identity_issue::Authority::create(now).unwrap())
    }

    pub fn issue(&self, identity: &Identity) -> Leaf {
        let subject = Subject::Identity(identity.clone());
        let issued = self.0.issue(&subject, OffsetDateTime::now_utc());
        self.leaf(issued.unwrap())
    }

    /// A leaf for dialling with these names.
    pub fn issue_for(&self, names: &[Name], validity: Validity) -> Leaf {
        let (begin, end) = validity.span();
        let statement = Statement {
            names: names.to_vec(),
            is_client: true,
            is_server: false,
            begin,
            end,
        };
        self.leaf(self.0.sign(&statement).unwrap())
    }

    fn leaf(&self, Material { certificate, key }: Material) -> Leaf {
        let ca = self.0.certificate().to_owned();
        Leaf {
            certificate,
            key,
            ca,
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

impl Validity {
    fn span(self) -> (OffsetDateTime, OffsetDateTime) {
        let day = Duration::DAY;
        let now = OffsetDateTime::now_utc();
        match self {
            Self::Now => (now - day, now + day),
            Self::Past => (now - 2 * day, now - day),
            Self::Future => (now + day, now + 2 * day),
        }
    }
}

pub fn uri(text: &str) -> Name {
    Name::Uri(text.into())
}

pub fn dns(text: &str) -> Name {
    Name::Dns(text.into())
}

impl Leaf {
    pub fn client(&self) -> ClientTls {
        let [certificate, key, ca] = [&self.certificate, &self.key, &self.ca].map(String::as_bytes);
        ClientTls::from_pem(certificate, key, ca).unwrap()
    }
}
