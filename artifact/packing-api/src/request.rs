//! The request to a packing Job: the JSON in `PAPERCLIP_PACK_REQUEST`.

use paperclip_artifact::integrity;
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::digest::Digest;
use paperclip_oci::reference::{self, Repository};
use serde::{Deserialize, Serialize};

use crate::naming::{self, job_name};
use crate::single_file::SingleFile;

/// Environment variable that holds the request.
pub const ENVIRONMENT: &str = "PAPERCLIP_PACK_REQUEST";

/// Longest request: Linux takes a variable of 128 KiB, with its name.
pub const MAX_BYTES: usize = 128 * 1024 - 64;

/// One packing. Holds no credential.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackRequest {
    /// URL of the npm registry. Part of the artifact's key, never of its bytes.
    pub registry: String,
    /// Name of the package, with its scope if it has one.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Integrity that an earlier look found; a package with another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<String>,
    /// Text of a `package-lock.json` for the whole tree; without one the recorded
    /// lock is taken, else a new one is resolved and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Names the act of locking anew that the recorded lock must come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relock: Option<String>,
    /// A plugin of one file. Its id and version are `package` and `version`, and npm is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_file: Option<SingleFile>,
    /// Where the package's tarball is, when no registry has it. `integrity` goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tarball: Option<String>,
    /// An artifact that was packed before, and is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<RemoteImage>,
    /// Whose registry or credential this is, if not the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Where the artifact is to run.
    #[serde(default, rename = "platform")]
    pub platforms: Platforms,
    /// The artifact store.
    pub store: StoreEndpoints,
    /// Repository in the store; [`naming::repository`] of the package.
    pub repository: String,
}

/// A tenant of the platform whose own registry or credential a step uses.
///
/// What such a step records in the store, other tenants do not find: a registry of somebody's
/// choice says what it likes, and what a credential opens is for its owner.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Fingerprint of the tenant, in lower-case hex: whose records these are.
    pub owner: String,
    /// Fingerprint of what the tenant's Secret holds. It tells Jobs apart, and no records: a
    /// credential that is renewed opens the same.
    pub credential: String,
}

/// An image in a registry that is not the store.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteImage {
    /// `host:port` and the repository there.
    pub repository: String,
    /// Digest of the image.
    pub digest: Digest,
}

/// The store as a packing Job sees it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreEndpoints {
    /// `host:port` that takes the read credential.
    pub read: String,
    /// `host:port` that takes the push credential.
    pub push: String,
    /// Whether to speak plain HTTP. Only for stores on the same machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// A request that cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
#[error("pack request: `{field}` is `{found}`, wanted {wanted}")]
pub struct InvalidRequest {
    field: &'static str,
    found: String,
    wanted: &'static str,
}

impl InvalidRequest {
    pub(crate) fn new(field: &'static str, found: &str, wanted: &'static str) -> Self {
        Self {
            field,
            found: found.chars().take(200).collect(),
            wanted,
        }
    }
}

impl PackRequest {
    /// Checks every field, so that later steps may put them in paths, URLs and arguments.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        let refuse = |field, found: &str, wanted| Err(InvalidRequest::new(field, found, wanted));
        if !naming::is_package_name(&self.package) {
            return refuse("package", &self.package, "the name of an npm package");
        }
        if semver::Version::parse(&self.version).is_err() || self.version.len() > 256 {
            return refuse("version", &self.version, "an exact version such as 1.2.3");
        }
        check_registry(&self.registry)?;
        if let Some(integrity) = &self.integrity
            && integrity::sha512(integrity).is_none()
        {
            return refuse("integrity", integrity, "`sha512-` and base64");
        }
        if let Some(url) = &self.tarball {
            check_tarball(url)?;
            if self.integrity.is_none() {
                return refuse("integrity", "missing", "one for the tarball");
            }
        }
        if let Some(image) = &self.image {
            parse_repository(&image.repository)?;
        }
        if let Some(tenant) = &self.tenant {
            tenant.validate()?;
        }
        let length = serde_json::to_vec(self).map_or(0, |text| text.len());
        if length > MAX_BYTES {
            let found = format!("{length} bytes long");
            let wanted = "at most 128 KiB as JSON, lock or worker file included";
            return refuse("lock", &found, wanted);
        }
        check_platforms(&self.platforms)?;
        if !reference::is_repository(&self.repository) {
            return refuse(
                "repository",
                &self.repository,
                "the name of an OCI repository",
            );
        }
        Ok(())
    }

    /// Hash of what is asked for: equal requests have one artifact. The credential is no part
    /// of it, its owner is.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut asked = self.clone();
        if let Some(tenant) = &mut asked.tenant {
            tenant.credential.clear();
        }
        asked.digest_with_credential()
    }

    fn digest_with_credential(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a struct of strings is always JSON"))
    }

    /// Tag under which the artifact of this request is found again without asking npm: a
    /// version that was packed once stays what it was.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("request-{}", self.digest().short(16))
    }

    /// Name by which the artifact is known to come from this request, whatever credential was
    /// sent: a DNS label of at most 63 characters.
    #[must_use]
    pub fn name(&self) -> String {
        job_name("pack", &self.package, &self.digest())
    }

    /// Name of the Job that carries this request out, with this credential: a DNS label of at
    /// most 63 characters.
    #[must_use]
    pub fn job_name(&self) -> String {
        job_name("pack", &self.package, &self.digest_with_credential())
    }

    /// Fingerprint of the tenant whose records in the store these are.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.tenant.as_ref().map(|tenant| tenant.owner.as_str())
    }
}

impl Tenant {
    pub(crate) fn validate(&self) -> Result<(), InvalidRequest> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let Self { owner, credential } = self;
        for (field, text, may_be_empty) in [
            ("tenant.owner", owner, false),
            ("tenant.credential", credential, true),
        ] {
            let is_fingerprint = text.len() <= 64 && text.bytes().all(is_hex);
            if !is_fingerprint || (text.is_empty() && !may_be_empty) {
                return Err(InvalidRequest::new(field, text, "lower-case hex digits"));
            }
        }
        Ok(())
    }
}

/// Whether there is a platform to pack for, and each is one of this release.
///
/// # Errors
/// Names the first that is not.
pub fn check_platforms(platforms: &Platforms) -> Result<(), InvalidRequest> {
    let supported = Platforms::supported();
    let wanted = "some of linux/amd64 and linux/arm64";
    if platforms.is_empty() {
        return Err(InvalidRequest::new("platform", "none", wanted));
    }
    let unknown = platforms.iter().find(|one| !supported.contains(one));
    unknown.map_or(Ok(()), |one| {
        Err(InvalidRequest::new("platform", &one.to_string(), wanted))
    })
}

/// Whether this is a URL that a tarball may be behind.
pub(crate) fn check_tarball(url: &str) -> Result<(), InvalidRequest> {
    let parsed = parse_url("tarball", url)?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        let found = "a URL with a query or a fragment";
        return Err(InvalidRequest::new("tarball", found, "a URL without one"));
    }
    Ok(())
}

/// The repository of an image, as in `registry.example:5000/a/b`.
///
/// # Errors
/// When it has no host of a registry, or a path that OCI does not allow.
pub fn parse_repository(text: &str) -> Result<Repository, InvalidRequest> {
    let wanted = "a registry and a repository, such as registry.example:5000/plugins/x";
    text.parse()
        .map_err(|_| InvalidRequest::new("repository", text, wanted))
}

/// Whether this is a URL that npm may ask.
///
/// # Errors
/// Says how it is none.
pub fn check_registry(registry: &str) -> Result<(), InvalidRequest> {
    parse_url("registry", registry).map(drop)
}

/// A URL of the web without a credential in it.
fn parse_url(field: &'static str, text: &str) -> Result<url::Url, InvalidRequest> {
    let refuse = |found, wanted| Err(InvalidRequest::new(field, found, wanted));
    match url::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            refuse(url.scheme(), "an http or https URL")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("a URL with a credential", "a URL without one")
        }
        Ok(url) => Ok(url),
        Err(_) => refuse(text, "an http or https URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(package: &str) -> PackRequest {
        PackRequest {
            registry: "https://registry.example/".into(),
            package: package.into(),
            version: "1.2.3".into(),
            store: StoreEndpoints {
                read: "s:5000".into(),
                push: "s:5001".into(),
                plain_http: false,
            },
            repository: naming::repository(package),
            ..PackRequest::default()
        }
    }

    fn of_tenant(owner: &str, credential: &str) -> PackRequest {
        PackRequest {
            tenant: Some(Tenant {
                owner: owner.into(),
                credential: credential.into(),
            }),
            ..request("plugin")
        }
    }

    #[test]
    fn a_tenant_finds_its_own_records_whatever_its_credential_and_nobody_elses() {
        let (ours, renewed) = (of_tenant("aa", "01"), of_tenant("aa", "02"));
        assert_eq!(ours.tag(), renewed.tag());
        assert_eq!(ours.name(), renewed.name());
        assert_ne!(ours.job_name(), renewed.job_name());
        let others = [of_tenant("bb", "01"), request("plugin")];
        for other in others {
            assert_ne!(ours.tag(), other.tag());
            assert_ne!(ours.job_name(), other.job_name());
        }
    }

    #[test]
    fn requests_of_the_platform_are_named_as_ever() {
        let request = request("plugin");
        assert_eq!(request.name(), request.job_name());
        let text = serde_json::to_string(&request).unwrap();
        for field in ["tenant", "integrity", "tarball", "image"] {
            assert!(!text.contains(field), "{text}");
        }
    }

    #[test]
    fn tarballs_and_images_are_checked_by_field() {
        let hash = format!("sha512-{}==", "A".repeat(86));
        let good = PackRequest {
            tarball: Some("https://files.example/x.tgz".into()),
            integrity: Some(hash),
            ..request("plugin")
        };
        assert!(good.validate().is_ok());
        let refused = |request: PackRequest| request.validate().unwrap_err().to_string();
        for url in [
            "file:///etc/x",
            "https://me:secret@a/x",
            "https://a/x?token=secret",
        ] {
            let said = refused(PackRequest {
                tarball: Some(url.into()),
                ..good.clone()
            });
            assert!(
                said.contains("`tarball`") && !said.contains("secret"),
                "{said}"
            );
        }
        let without = PackRequest {
            integrity: None,
            ..good.clone()
        };
        assert!(refused(without).contains("`integrity`"));
        for repository in ["plugins", "r.example/../x", "/x", "r.example/A"] {
            let image = Some(RemoteImage {
                repository: repository.into(),
                digest: Digest::of(b""),
            });
            let said = refused(PackRequest {
                image,
                ..request("plugin")
            });
            assert!(said.contains("`repository`"), "{said}");
        }
        assert!(refused(of_tenant("../x", "")).contains("`tenant.owner`"));
    }

    #[test]
    fn job_name_is_a_dns_label_for_any_package() {
        for package in ["@acme/plugin-x", &"a".repeat(214), "a.b_c~d", "@a--/-"] {
            let name = request(package).job_name();
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
        }
    }

    #[test]
    fn requests_with_paths_options_or_credentials_in_them_are_refused() {
        let good = request("@acme/plugin-x");
        assert!(good.validate().is_ok());
        for bad in [
            PackRequest {
                package: "../x".into(),
                ..good.clone()
            },
            PackRequest {
                package: "--foo".into(),
                ..good.clone()
            },
            PackRequest {
                version: "^1.0.0".into(),
                ..good.clone()
            },
            PackRequest {
                version: "latest".into(),
                ..good.clone()
            },
            PackRequest {
                registry: "file:///etc".into(),
                ..good.clone()
            },
            PackRequest {
                registry: "https://me:secret@registry.example".into(),
                ..good.clone()
            },
            PackRequest {
                repository: "plugins/../x".into(),
                ..good.clone()
            },
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
