//! A package that is to be packed, and on which terms.

use paperclip_artifact_format::platform::Platforms;
use paperclip_packing_api::request::PackRequest;

use crate::npm::registry::Registry;

/// A package to pack.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    /// Name of the package.
    pub name: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// Text of the lock to install from, if one is given.
    pub lock: Option<&'a str>,
    /// The act of locking anew that a recorded lock must come from.
    pub relock: Option<&'a str>,
    /// Where the artifact is to run.
    pub platforms: &'a Platforms,
}

impl<'a> From<&'a PackRequest> for Package<'a> {
    fn from(request: &'a PackRequest) -> Self {
        Self {
            name: &request.package,
            version: &request.version,
            lock: request.lock.as_deref(),
            relock: request.relock.as_deref(),
            platforms: &request.platforms,
        }
    }
}

/// What is asked of a package beyond its name and version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The integrity that an earlier look found.
    pub integrity: Option<&'a str>,
    /// Where its tarball is, when no registry has it.
    pub tarball: Option<RemoteTarball<'a>>,
    /// Fingerprint of the tenant whose registry or credential this is, if not the platform's.
    pub owner: Option<&'a str>,
}

/// A tarball behind a URL.
#[derive(Clone, Copy, Debug)]
pub struct RemoteTarball<'a> {
    /// The URL.
    pub url: &'a str,
    /// Authority and credential for it.
    pub access: &'a Registry,
}
