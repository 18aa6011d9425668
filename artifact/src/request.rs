//! What a packing Job is asked for: the JSON in `PAPERCLIP_PACK_REQUEST`.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::inline::Inline;
use crate::inputs;

/// Environment variable that holds the request.
pub const ENVIRONMENT: &str = "PAPERCLIP_PACK_REQUEST";

/// Longest request: Linux takes a variable of 128 KiB, with its name.
pub const MAX_BYTES: usize = 128 * 1024 - 64;

/// One packing. Holds no credential.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackRequest {
    /// URL of the npm registry. Part of the artifact's key, never of its bytes.
    pub registry: String,
    /// Name of the package, with its scope if it has one.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Text of a `package-lock.json` for the whole tree; without one the recorded
    /// lock is taken, else a new one is resolved and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Names the act of locking anew that the recorded lock must come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relock: Option<String>,
    /// A plugin of one file. Its id and version are `package` and `version`, and npm is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Inline>,
    /// Where the artifact is to run.
    #[serde(default)]
    pub platform: Platform,
    /// The artifact store.
    pub store: StoreEndpoints,
    /// Repository in the store; [`inputs::repository`] of the package.
    pub repository: String,
}

/// The store as a packing Job sees it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
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

/// An operating system, a CPU and a C library, in npm's words.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Platform {
    /// npm's `os`.
    pub os: String,
    /// npm's `cpu`.
    pub cpu: String,
    /// npm's `libc`.
    pub libc: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            os: "linux".into(),
            cpu: "x64".into(),
            libc: "glibc".into(),
        }
    }
}

impl Platform {
    /// The CPU in OCI's words, for the platforms this release packs for.
    #[must_use]
    pub fn oci_architecture(&self) -> Option<&'static str> {
        match (self.os.as_str(), self.cpu.as_str(), self.libc.as_str()) {
            ("linux", "x64", "glibc") => Some("amd64"),
            _ => None,
        }
    }
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
        if !inputs::is_package_name(&self.package) {
            return refuse("package", &self.package, "the name of an npm package");
        }
        if semver::Version::parse(&self.version).is_err() || self.version.len() > 256 {
            return refuse("version", &self.version, "an exact version such as 1.2.3");
        }
        check_registry(&self.registry)?;
        let length = serde_json::to_vec(self).map_or(0, |text| text.len());
        if length > MAX_BYTES {
            let found = format!("{length} bytes long");
            let wanted = "at most 128 KiB as JSON, lock or worker file included";
            return refuse("lock", &found, wanted);
        }
        if self.platform.oci_architecture().is_none() {
            let found = format!(
                "{}/{}/{}",
                self.platform.os, self.platform.cpu, self.platform.libc
            );
            return refuse("platform", &found, "linux/x64/glibc");
        }
        if !inputs::is_repository(&self.repository) {
            return refuse(
                "repository",
                &self.repository,
                "the name of an OCI repository",
            );
        }
        Ok(())
    }

    /// Hash of the whole request: equal requests share one Job.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a struct of strings is always JSON"))
    }

    /// Tag under which the artifact of this request is found again without asking npm: a
    /// version that was packed once stays what it was.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("request-{}", self.digest().short(16))
    }

    /// Name of the Job that carries this request out: a DNS label of at most 63 characters.
    #[must_use]
    pub fn job_name(&self) -> String {
        job_name("pack", &self.package, &self.digest())
    }
}

/// Whether this is a URL that npm may ask.
pub(crate) fn check_registry(registry: &str) -> Result<(), InvalidRequest> {
    let refuse = |found, wanted| Err(InvalidRequest::new("registry", found, wanted));
    match url::Url::parse(registry) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            refuse(url.scheme(), "an http or https URL")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("a URL with a credential", "a URL without one")
        }
        Ok(_) => Ok(()),
        Err(_) => refuse(registry, "an http or https URL"),
    }
}

/// `<what>-<package>-<hash>`, a DNS label of at most 63 characters.
pub(crate) fn job_name(what: &str, package: &str, digest: &Digest) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' => c,
        _ => '-',
    };
    let package: String = package.chars().map(plain).collect();
    let package = package.trim_matches('-');
    // The hash is 16 characters long, and "resolve" the longest word.
    let package = package[..package.len().min(38)].trim_end_matches('-');
    format!("{what}-{package}-{}", digest.short(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(package: &str) -> PackRequest {
        PackRequest {
            registry: "https://registry.example/".into(),
            package: package.into(),
            version: "1.2.3".into(),
            lock: None,
            relock: None,
            inline: None,
            platform: Platform::default(),
            store: StoreEndpoints {
                read: "s:5000".into(),
                push: "s:5001".into(),
                plain_http: false,
            },
            repository: inputs::repository(package),
        }
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
