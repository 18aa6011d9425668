//! How to reach a registry.

use std::path::Path;

use crate::client::StoreError;

/// User name and password of a registry.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How to reach a registry.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// `host:port`.
    pub address: String,
    /// Speak plain HTTP. Never with a credential over a network.
    pub plain_http: bool,
    /// Basic authentication.
    pub credentials: Option<Credentials>,
    /// A bearer token that was given out before, in place of a credential.
    pub token: Option<String>,
    /// PEM of the only authorities to trust; the system's when absent.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether a tenant chose the address: it must then itself be one where a registry may send
    /// us.
    pub of_tenant: bool,
}

impl StoreOptions {
    /// A registry without TLS and credential, as beside a test cluster.
    #[must_use]
    pub fn plain(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            plain_http: true,
            ..Self::default()
        }
    }

    /// Reads `username`, `password`, `token` and `ca.crt` of a mounted Secret; each may be missing.
    ///
    /// # Errors
    /// When a file is there and cannot be read as text.
    pub fn from_folder(address: &str, folder: &Path) -> Result<Self, StoreError> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(StoreError::Credential { path, source }),
            }
        };
        let credentials = match (read("username")?, read("password")?) {
            (Some(username), Some(password)) => Some(Credentials { username, password }),
            _ => None,
        };
        let ca_pem = read("ca.crt")?.map(String::into_bytes);
        Ok(Self {
            address: address.to_owned(),
            credentials,
            token: read("token")?,
            ca_pem,
            ..Self::default()
        })
    }
}
