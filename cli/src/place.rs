//! Where an artifact is: a folder with an OCI image layout, or a reference to a registry.

use std::{fs, path::Path, str::FromStr};

use paperclip_oci::{
    Digest,
    client::{StoreClient, StoreOptions},
    layout::Layout,
    reference,
    source::Source,
};

use crate::{args::PlaceArguments, docker, error::Error};

/// A reference to a registry: `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `host` or `host:port`.
    pub address: String,
    /// The repository.
    pub repository: String,
    /// Tag or digest.
    pub named: Named,
}

/// How a reference names an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By a tag.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        let is_host = |host: &str| host == "localhost" || host.contains(['.', ':']);
        let (address, path) = text
            .split_once('/')
            .filter(|(host, _)| is_host(host))
            .ok_or("it does not begin with the host of a registry")?;
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| e.to_string())?;
                (path, Some(digest))
            }
            None => (path, None),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !reference::is_repository(repository) {
            return Err(format!("`{repository}` is no name of a repository"));
        }
        let named = match (digest, tag) {
            (Some(digest), _) => Named::Digest(digest),
            (None, Some(tag)) if is_tag(tag) => Named::Tag(tag.to_owned()),
            (None, Some(tag)) => return Err(format!("`{tag}` is no tag")),
            (None, None) => return Err("it has neither a tag nor a digest".into()),
        };
        Ok(Self {
            address: address.to_owned(),
            repository: repository.to_owned(),
            named,
        })
    }
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || matches!(c, '.' | '-'))
}

/// Opens the place that the arguments name, and finds the artifact's digest.
///
/// # Errors
/// When it is neither a layout nor a reference, or what it names is not there.
pub async fn open(arguments: &PlaceArguments) -> Result<(Source, Digest), Error> {
    let PlaceArguments { place, .. } = arguments;
    let doing = || format!("find the artifact {place}");
    if let Some(layout) = Layout::open(Path::new(place)) {
        let digest = layout.image().map_err(|e| Error::artifact(doing(), e))?;
        return Ok((Source::Layout(layout), digest));
    }
    let reference: Reference = place.parse().map_err(|why| Error::Input {
        what: format!(
            "{place} is no folder with an OCI image layout, and no reference: {why}; wanted a folder, \
             HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST"
        ),
    })?;
    let source = connect(&reference, arguments)?;
    let digest = match reference.named {
        Named::Digest(digest) => digest,
        Named::Tag(tag) => {
            let found = source.tagged(&tag).await;
            found.map_err(|e| Error::artifact(doing(), e))?
        }
    };
    Ok((source, digest))
}

fn connect(reference: &Reference, arguments: &PlaceArguments) -> Result<Source, Error> {
    let address = reference.address.clone();
    let ca_pem = match &arguments.ca {
        Some(path) => Some(fs::read(path).map_err(|source| Error::ReadFile {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let credentials = docker::credentials(&address)?;
    let client = StoreClient::new(StoreOptions {
        plain_http: arguments.plain_http,
        credentials,
        ca_pem,
        address,
        ..StoreOptions::default()
    });
    Ok(Source::Store {
        client: client.map_err(|e| Error::artifact("connect to the registry", e))?,
        repository: reference.repository.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_has_a_host_a_repository_and_a_tag_or_digest() {
        let parse = |text: &str| text.parse::<Reference>();
        let tagged = parse("store.example:5000/plugins/acme--p:v1.2.3-ab").unwrap();
        assert_eq!(tagged.address, "store.example:5000");
        assert_eq!(tagged.repository, "plugins/acme--p");
        assert_eq!(tagged.named, Named::Tag("v1.2.3-ab".into()));
        let digest = Digest::of(b"x");
        let named = Named::Digest(digest.clone());
        for text in [
            format!("localhost/p@{digest}"),
            format!("oci://localhost/p:t@{digest}"),
        ] {
            assert_eq!(parse(&text).unwrap().named, named, "{text}");
        }
        for (text, why) in [
            ("plugins/p:1", "host"),
            ("p", "host"),
            ("a.b/p", "neither"),
            ("a.b/P:1", "repository"),
            ("a.b/p:-", "no tag"),
            ("a.b/p@sha256:1", "digest"),
            ("a.b/../p:1", "repository"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
