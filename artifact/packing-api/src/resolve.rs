//! The resolution of a source: the exact version that npm would take for a range or
//! a dist-tag, the package in a tarball, the image under a tag.
//!
//! A tenant's own registry or credential is asked this first, whatever the store holds: who may
//! not have a package there does not get it here.

use paperclip_artifact::integrity;
use paperclip_oci::{digest::Digest, reference};
use serde::{Deserialize, Serialize};

use crate::{
    naming::{self, job_name},
    request::{InvalidRequest, Tenant, check_registry, check_tarball, parse_repository},
};

/// Environment variable that holds the request.
pub const ENVIRONMENT: &str = "PAPERCLIP_RESOLVE_REQUEST";

/// One look. Holds no credential.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveRequest {
    /// What is looked at.
    pub wanted: Wanted,
    /// Tells one look from the next.
    pub round: String,
    /// Whose registry or credential this is, if not the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
}

/// What is looked at.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Wanted {
    /// A package of an npm registry.
    Npm {
        /// URL of the registry.
        registry: String,
        /// Name of the package, with its scope if it has one.
        package: String,
        /// A version, a range or a dist-tag.
        range: String,
    },
    /// A tarball.
    Tarball {
        /// Where it is.
        url: String,
        /// npm's integrity of it.
        integrity: String,
    },
    /// An image in a registry.
    Image {
        /// `host:port` and the repository there.
        repository: String,
        /// What is asked for there.
        reference: Reference,
    },
}

/// One image of a repository.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Reference {
    /// What is under a tag.
    Tag(String),
    /// What has a digest.
    Digest(Digest),
}

impl ResolveRequest {
    /// Checks every field, so that later steps may put them in arguments and URLs.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        if let Some(tenant) = &self.tenant {
            tenant.validate()?;
        }
        match &self.wanted {
            Wanted::Npm {
                registry,
                package,
                range,
            } => {
                if !naming::is_package_name(package) {
                    let wanted = "the name of an npm package";
                    return Err(InvalidRequest::new("package", package, wanted));
                }
                if !is_range(range) {
                    let wanted = "a version range or a dist-tag";
                    return Err(InvalidRequest::new("range", range, wanted));
                }
                check_registry(registry)
            }
            Wanted::Tarball { url, integrity } => {
                if integrity::sha512(integrity).is_none() {
                    let wanted = "`sha512-` and base64";
                    return Err(InvalidRequest::new("integrity", integrity, wanted));
                }
                check_tarball(url)
            }
            Wanted::Image {
                repository,
                reference,
            } => {
                if let Reference::Tag(tag) = reference
                    && !reference::is_tag(tag)
                {
                    return Err(InvalidRequest::new("tag", tag, "a tag as OCI allows it"));
                }
                parse_repository(repository).map(drop)
            }
        }
    }

    /// Name of the Job that looks: a DNS label of at most 63 characters.
    #[must_use]
    pub fn job_name(&self) -> String {
        let text = serde_json::to_vec(self).expect("a struct of strings is always JSON");
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_lowercase();
        let stem = match &self.wanted {
            Wanted::Npm { package, .. } => package.clone(),
            Wanted::Tarball { url, .. } => last(url),
            Wanted::Image { repository, .. } => last(repository),
        };
        job_name("resolve", &stem, &Digest::of(&text))
    }
}

/// Whether npm reads this as a range or a tag: never as a URL, a path or an alias.
#[must_use]
pub fn is_range(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".*^~<>=| +-_".contains(&byte);
    !text.trim().is_empty() && text.len() <= 128 && text.bytes().all(allowed)
}

/// What the source stands for.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Resolved {
    /// Name of the package, where the request does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Exact version.
    pub version: String,
    /// Its integrity, as npm writes it, or the digest of the image.
    pub integrity: String,
}

/// The version of a package in a `package-lock.json` that was made for it.
#[must_use]
pub fn locked(lock: &str, package: &str) -> Option<String> {
    let lock: serde_json::Value = serde_json::from_str(lock).ok()?;
    let entry = &lock["packages"][format!("node_modules/{package}")];
    entry["version"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(wanted: Wanted) -> ResolveRequest {
        ResolveRequest {
            wanted,
            round: String::new(),
            tenant: None,
        }
    }

    #[test]
    fn images_and_tarballs_are_looked_at_by_jobs_of_dns_names() {
        let image = |repository: &str, tag: &str| {
            look(Wanted::Image {
                repository: repository.into(),
                reference: Reference::Tag(tag.into()),
            })
        };
        let good = image(
            "registry.example:5000/team/Greeter_x"
                .to_lowercase()
                .as_str(),
            "v1.0",
        );
        assert!(good.validate().is_ok());
        assert!(good.job_name().starts_with("resolve-greeter-x-"));
        for (repository, tag) in [
            ("registry.example", "v1"),
            ("registry.example/../x", "v1"),
            ("registry.example/x", "../v1"),
            ("registry.example/x", ""),
        ] {
            assert!(
                image(repository, tag).validate().is_err(),
                "{repository}:{tag}"
            );
        }
        let tarball = look(Wanted::Tarball {
            url: "https://files.example/Greeter-1.0.0.TGZ".into(),
            integrity: format!("sha512-{}==", "A".repeat(86)),
        });
        assert!(tarball.validate().is_ok());
        let name = tarball.job_name();
        assert!(name.starts_with("resolve-greeter-1-0-0-tgz-"), "{name}");
    }

    #[test]
    fn what_npm_would_not_look_up_is_no_range() {
        let request = |range: &str| {
            look(Wanted::Npm {
                registry: "https://registry.example/".into(),
                package: "@acme/plugin".into(),
                range: range.into(),
            })
        };
        for good in ["^1.2.0", "1.x || >=2.5.0 <3", "latest", "next-1", "*"] {
            assert!(request(good).validate().is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "git+ssh://host/x",
            "file:../x",
            "npm:other@1",
            "../x",
            "a@b",
        ] {
            assert!(request(bad).validate().is_err(), "{bad}");
        }
        let name = request("^1.2.0").job_name();
        assert!(
            name.starts_with("resolve-acme-plugin-") && name.len() <= 63,
            "{name}"
        );
    }
}
