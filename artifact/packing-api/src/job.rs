//! The Jobs of packing as operator and packer both know them: the program, its steps, and the
//! folders that a Job mounts for them.

/// The program in the packer image.
pub const PROGRAM: &str = "/usr/local/bin/paperclip-packer";

/// Step before packing: finds the exact version that a source stands for.
pub const RESOLVE: &str = "resolve";
/// Step one: brings the package and its dependencies into the work folder.
pub const FETCH: &str = "fetch";
/// Step two: evaluates the plugin manifest.
pub const EVALUATE: &str = "evaluate";
/// Step three: checks the artifact by the policies, signs it and pushes it.
pub const PUSH: &str = "push";
/// Step after packing: checks the recorded signatures of an artifact in the store.
pub const VERIFY: &str = "verify";

/// Every step; each is a command of the program and the name of its container.
pub const STEPS: [&str; 5] = [RESOLVE, FETCH, EVALUATE, PUSH, VERIFY];

/// Folder that the steps of a Job share.
pub const WORK: &str = "/work";
/// Folder for what a program puts aside; the root of the image is read-only.
pub const TEMPORARY: &str = "/tmp";
/// Folder with `ca.crt` and `npmrc` for the npm registry, each optional.
pub const NPM: &str = "/etc/paperclip/npm";
/// Folder with the credential for a source that is no npm registry: `ca.crt`, and `npmrc` for a
/// tarball, `username` and `password` for an image, each optional.
pub const SOURCE: &str = "/etc/paperclip/source";
/// Folder with `username`, `password` and `ca.crt` of the artifact store.
pub const STORE: &str = "/etc/paperclip/store";
/// Folder with [`SIGNING_KEY`], the platform's signing key.
pub const SIGNING: &str = "/etc/paperclip/signing";

/// Every folder that a Job mounts.
pub const FOLDERS: [&str; 6] = [WORK, TEMPORARY, NPM, SOURCE, STORE, SIGNING];

/// Name of the signing key in [`SIGNING`].
pub const SIGNING_KEY: &str = "key.pem";
