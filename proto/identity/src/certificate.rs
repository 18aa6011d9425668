//! The identity that a certificate states.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Identity, ParseIdentityError};

/// Why a certificate names no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("parsing the peer's certificate")]
    Parse(#[from] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// The subject alternative names cannot be read.
    #[error("reading the subject alternative names of the peer's certificate")]
    Names(#[from] x509_parser::error::X509Error),
    /// There is not exactly one URI name.
    #[error("finding the identity of the peer: its certificate has {0} URI names, wanted one")]
    Count(usize),
    /// The URI name is another system's.
    #[error(transparent)]
    Foreign(#[from] ParseIdentityError),
}

/// The identity in a certificate: its one URI name.
///
/// # Errors
/// When it is no certificate, or has not exactly one URI name, or that is of another system.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(certificate)?;
    let names = certificate.subject_alternative_name()?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri.parse()?),
        _ => Err(IdentityError::Count(uris.len())),
    }
}
