//! Where an artifact is: a folder with an OCI image layout, or a reference to a registry.

use std::{fs, path::Path};

use paperclip_oci::{
    Digest,
    client::{StoreClient, StoreOptions},
    layout::Layout,
    reference::{ParseReferenceError, Reference, Repository, Version},
    source::Source,
};

use crate::{args::LocationArguments, docker, error::Error};

/// Opens the location that the arguments name, and finds the artifact's digest.
///
/// # Errors
/// When it is neither a layout nor a reference, or what it names is not there.
pub async fn open(arguments: &LocationArguments) -> Result<(Source, Digest), Error> {
    let LocationArguments { location, .. } = arguments;
    let doing = || format!("find the artifact {location}");
    if let Some(layout) = Layout::open(Path::new(location)) {
        let digest = layout.image().map_err(|e| Error::artifact(doing(), e))?;
        return Ok((Source::Layout(layout), digest));
    }
    let reference: Reference = location.parse().map_err(|why: ParseReferenceError| Error::Input {
        what: format!(
            "{location} is no folder with an OCI image layout, and no reference: {why}; wanted a folder, \
             HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST"
        ),
    })?;
    let source = connect(&reference.repository, arguments)?;
    let digest = match reference.version {
        Version::Digest(digest) => digest,
        Version::Tag(tag) => {
            let found = source.tagged(&tag).await;
            found.map_err(|e| Error::artifact(doing(), e))?
        }
    };
    Ok((source, digest))
}

fn connect(repository: &Repository, arguments: &LocationArguments) -> Result<Source, Error> {
    let address = repository.address.clone();
    let ca_pem = match &arguments.ca {
        Some(path) => Some(fs::read(path).map_err(|source| Error::ReadFile {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let credentials = docker::credentials(repository)?;
    let client = StoreClient::new(StoreOptions {
        plain_http: arguments.plain_http,
        credentials,
        ca_pem,
        address,
        ..StoreOptions::default()
    });
    Ok(Source::Store {
        client: client.map_err(|e| Error::artifact("connect to the registry", e))?,
        repository: repository.path.clone(),
    })
}
