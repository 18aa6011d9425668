//! Credentials for registries, as `docker login` and Secrets of the type
//! `kubernetes.io/dockerconfigjson` keep them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::client::Credentials;

/// Why a configuration gives no credential. Nothing of what is in it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// It cannot be read.
    #[error("it is no JSON")]
    Format,
    /// It keeps no credentials.
    #[error("it has no `auths`")]
    NoAuths,
    /// It keeps those of other registries.
    #[error("its `auths` has no entry for this registry")]
    NoEntry,
    /// Its entry is empty.
    #[error("its entry has neither `auth` nor `username` and `password`")]
    NoCredential,
    /// Its entry cannot be read.
    #[error("its `auth` is not `username:password` in base64")]
    Encoding,
}

impl DockerConfigError {
    /// Whether the configuration is sound and has no credential for the registry.
    #[must_use]
    pub fn is_absence(self) -> bool {
        matches!(self, Self::NoAuths | Self::NoEntry | Self::NoCredential)
    }
}

/// Reads a configuration.
///
/// # Errors
/// When it is no JSON.
pub fn parse(text: &[u8]) -> Result<Value, DockerConfigError> {
    serde_json::from_slice(text).map_err(|_| DockerConfigError::Format)
}

/// End of the name of the program `docker-credential-…` that a configuration names for a
/// registry, before which `auths` does not count.
#[must_use]
pub fn helper<'a>(config: &'a Value, address: &str) -> Option<&'a str> {
    let of_registry = config["credHelpers"][address].as_str();
    of_registry.or_else(|| config["credsStore"].as_str())
}

/// User name and password for a repository, as in `registry.example:5000/team/x`: the entry
/// with the longest match, as the kubelet chooses.
///
/// # Errors
/// When there is no entry, or it cannot be read.
pub fn credentials(config: &Value, repository: &str) -> Result<Credentials, DockerConfigError> {
    let entries = config["auths"].as_object();
    let entries = entries.ok_or(DockerConfigError::NoAuths)?;
    let above = entries
        .iter()
        .filter(|(key, _)| is_above(place(key), repository));
    let (_, entry) = above
        .max_by_key(|(key, _)| place(key).len())
        .ok_or(DockerConfigError::NoEntry)?;
    read_entry(entry)
}

/// A key of `auths` without scheme and version of the registry's API.
fn place(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let bare = bare.trim_end_matches('/');
    let versions = ["/v1", "/v2"];
    let mut without = versions
        .iter()
        .filter_map(|version| bare.strip_suffix(version));
    without.next().unwrap_or(bare)
}

fn is_above(place: &str, repository: &str) -> bool {
    let rest = repository.strip_prefix(place);
    rest.is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
}

fn read_entry(entry: &Value) -> Result<Credentials, DockerConfigError> {
    let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty());
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Ok(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        });
    }
    let encoded = text("auth").ok_or(DockerConfigError::NoCredential)?;
    let decoded = STANDARD.decode(encoded.trim()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or(DockerConfigError::Encoding)?;
    Ok(Credentials {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // me:a:b
    const AUTH: &str = "bWU6YTpi";

    #[test]
    fn entry_of_a_registry_is_found_under_each_spelling_and_the_longest_counts() {
        for key in [
            "store:5000",
            "https://store:5000",
            "https://store:5000/v2/",
            "http://store:5000/v1/",
            "store:5000/team",
        ] {
            let config = json!({"auths": {key: {"auth": AUTH}, "store": {"auth": "eDp5"}}});
            let found = credentials(&config, "store:5000/team/x").unwrap();
            assert_eq!((&*found.username, &*found.password), ("me", "a:b"), "{key}");
        }
        let both = json!({"auths": {
            "store:5000": {"auth": AUTH},
            "store:5000/team": {"username": "t", "password": "p"},
        }});
        assert_eq!(
            credentials(&both, "store:5000/team/x").unwrap().username,
            "t"
        );
        assert_eq!(
            credentials(&both, "store:5000/teams/x").unwrap().username,
            "me"
        );
        assert_eq!(credentials(&both, "store:5000").unwrap().username, "me");
    }

    #[test]
    fn absent_and_broken_credentials_are_told_apart_and_nothing_is_shown() {
        let refused = |config: Value| credentials(&config, "store:5000").unwrap_err();
        for absent in [
            json!({}),
            json!({"auths": {"other:5000": {"auth": AUTH}}}),
            json!({"auths": {"store:50001": {"auth": AUTH}}}),
            json!({"auths": {"store:5000": {}}}),
        ] {
            assert!(refused(absent.clone()).is_absence(), "{absent}");
        }
        let broken = refused(json!({"auths": {"store:5000": {"auth": "!"}}}));
        assert!(!broken.is_absence() && !broken.to_string().contains('!'));
    }

    #[test]
    fn program_of_a_registry_goes_before_the_common_one() {
        let config = json!({"credHelpers": {"a": "one"}, "credsStore": "two"});
        assert_eq!(helper(&config, "a"), Some("one"));
        assert_eq!(helper(&config, "b"), Some("two"));
        assert_eq!(helper(&json!({}), "a"), None);
    }
}
