//! References to images, repositories and tags, as the OCI distribution specification has them.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// A repository of a registry: `registry.example:5000/team/x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `host` or `host:port`.
    pub address: String,
    /// Path of the repository there.
    pub path: String,
}

/// An image of a registry: `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`; of one with both
/// the digest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// Tag or digest.
    pub version: Version,
}

/// The name of an image in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tag, which may come to name another image.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

/// A text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// No host of a registry.
    #[error("it does not begin with the host of a registry")]
    Host,
    /// The path is none.
    #[error("`{0}` is no name of a repository")]
    Repository(String),
    /// The tag is none.
    #[error("`{0}` is no tag")]
    Tag(String),
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] crate::digest::ParseDigestError),
    /// Nothing behind the repository.
    #[error("it has neither a tag nor a digest")]
    Version,
}

impl FromStr for Repository {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, path) = text
            .split_once('/')
            .filter(|(host, _)| !host.is_empty())
            .ok_or(ParseReferenceError::Host)?;
        if !is_repository(path) {
            return Err(ParseReferenceError::Repository(cut(path)));
        }
        Ok(Self {
            address: address.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.path)
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // The colon of a port is before the path.
        let start = name.find('/').unwrap_or(name.len());
        let (name, tag) = match name[start..].rfind(':') {
            Some(at) => (&name[..start + at], Some(&name[start + at + 1..])),
            None => (name, None),
        };
        let repository: Repository = name.parse()?;
        // Some tools complete other names to a registry of their choice.
        let host = &*repository.address;
        if host != "localhost" && !host.contains(['.', ':']) {
            return Err(ParseReferenceError::Host);
        }
        let version = match (digest, tag) {
            (Some(digest), _) => Version::Digest(digest),
            (None, Some(tag)) if is_tag(tag) => Version::Tag(tag.to_owned()),
            (None, Some(tag)) => return Err(ParseReferenceError::Tag(cut(tag))),
            (None, None) => return Err(ParseReferenceError::Version),
        };
        Ok(Self {
            repository,
            version,
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Whether a text is a repository name as the OCI distribution specification has it.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.split('/').all(is_repository_part)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_repository_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(is_word)
        && part.ends_with(is_word)
        && part
            .chars()
            .all(|c| is_word(c) || matches!(c, '.' | '_' | '-'))
        && part
            .split(is_word)
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.chars().all(|c| c == '-'))
}

/// Whether a text is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_has_a_host_a_repository_and_a_tag_or_digest() {
        let parse = |text: &str| text.parse::<Reference>();
        let tagged = parse("store.example:5000/plugins/acme--p:v1.2.3-ab").unwrap();
        assert_eq!(tagged.repository.address, "store.example:5000");
        assert_eq!(tagged.repository.path, "plugins/acme--p");
        assert_eq!(tagged.version, Version::Tag("v1.2.3-ab".into()));
        let digest = Digest::of(b"x");
        let named = Version::Digest(digest.clone());
        for text in [
            format!("localhost/p@{digest}"),
            format!("oci://localhost/p:t@{digest}"),
        ] {
            assert_eq!(parse(&text).unwrap().version, named, "{text}");
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
            let found = parse(text).unwrap_err().to_string();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
