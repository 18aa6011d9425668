//! A client for OCI registries: blobs and manifests by digest, every byte checked.

mod error;
mod options;
mod pull;
mod push;
mod send;

use std::sync::Arc;
use std::time::Duration;

use paperclip_net_guard::registry::Addresses;
use reqwest::{Certificate, Method, Url};

use crate::token::Token;

pub use error::StoreError;
pub use options::{Credentials, StoreOptions};

/// A client of one registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreClient {
    http: reqwest::Client,
    base: Url,
    address: String,
    credentials: Option<Credentials>,
    token: Token,
}

impl StoreClient {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub fn new(options: StoreOptions) -> Result<Self, StoreError> {
        let StoreOptions {
            address,
            plain_http,
            credentials,
            token,
            ca_pem,
            of_tenant,
        } = options;
        let setup = |why: String| StoreError::Setup {
            address: address.clone(),
            why,
        };
        let token = token.map(|token| {
            let unusable = || setup("its token cannot be sent in a header".into());
            Token::given(&token).ok_or_else(unusable)
        });
        let token = token.transpose()?.unwrap_or_default();
        let scheme = if plain_http { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{address}/v2/")).map_err(|e| setup(e.to_string()))?;
        if base.path() != "/v2/" || !base.username().is_empty() || base.query().is_some() {
            return Err(setup("wanted `host` or `host:port`".into()));
        }
        // Registries send us on to where their storage is, which may be anywhere but near.
        let addresses = if of_tenant {
            Addresses::default()
        } else {
            Addresses::of([&base])
        };
        // What is resolved and what is redirected to is checked later; this is the address itself.
        addresses.check(&base).map_err(|e| setup(e.to_string()))?;
        let mut http = Arc::new(addresses)
            .guard(reqwest::Client::builder())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        if let Some(pem) = ca_pem {
            let authorities =
                Certificate::from_pem_bundle(&pem).map_err(|e| setup(e.to_string()))?;
            http = http.tls_certs_only(authorities);
        }
        let http = http.build().map_err(|e| setup(e.to_string()))?;
        Ok(Self {
            http,
            base,
            address,
            credentials,
            token,
        })
    }

    /// `host:port` of the registry.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the registry answers and takes the credential.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.send("ask for its version", || {
            self.request(Method::GET, self.base.clone())
        })
        .await?;
        Ok(())
    }

    /// The error that what the registry holds is something else.
    #[must_use]
    pub fn mismatch(&self, action: &str, why: &str) -> StoreError {
        StoreError::Mismatch {
            address: self.address.clone(),
            action: action.to_owned(),
            why: why.to_owned(),
        }
    }
}
