//! Every bound of packing and pulling, in one place, each with its reason.
//!
//! What is packed must be pullable, so both sides read the same number. The bounds are well
//! above any plugin seen and well below what hurts a node, a Job or the store.

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

// --- the npm registry ---

/// One document of metadata, as sent. The longest list of versions in public use is near
/// 30 MiB in full, and compressed to a tenth of it.
pub const METADATA_SENT: u64 = 32 * MIB;
/// One document of metadata after decompression: with [`METADATA_AT_ONCE`] it bounds the
/// memory of the step.
pub const METADATA: u64 = 64 * MIB;
/// Documents of metadata in memory at one time, a quarter of the Job's memory together.
pub const METADATA_AT_ONCE: usize = 6;
/// Redirects that are followed for one request: a registry, its front and a signed URL
/// of its storage are three.
pub const REDIRECTS: usize = 5;

// --- tarballs ---

/// One tarball as downloaded. The largest packages in use hold one native program each, of
/// near 50 MiB compressed. What is larger also could not be kept in the store.
pub const TARBALL: u64 = 128 * MIB;
/// Tarballs downloaded at one time: enough to hide latency, few enough for a small registry.
pub const TARBALLS_AT_ONCE: usize = 6;
/// Bytes of one file in a tarball: twice the largest native program in use.
pub const FILE: u64 = 256 * MIB;
/// Files of one tarball. The largest packages of icons have near 45,000.
pub const PACKAGE_FILES: usize = 65_536;
/// Folders above one file of a tarball. npm's own nested trees stay under 20.
pub const DEPTH: usize = 64;
/// Bytes of one pax header. npm writes under 1 KiB; a path may take [`PATH`] of it.
pub const PAX_HEADER: u64 = 16 * 1024;

// --- the installed tree, which is the second layer of an artifact ---

/// Bytes of all files. Every pod that pulls by itself needs twice this at most.
pub const TREE: u64 = 512 * MIB;
/// Files and folders. Listing and hashing so many takes a minute on a slow node.
pub const ENTRIES: usize = 100_000;
/// Bytes of one path: a quarter of what Linux takes, so that it fits below any mount point.
pub const PATH: usize = 1024;
/// Bytes of one part of a path: what Linux takes.
pub const NAME: usize = 255;
/// What a tar archive of a whole tree may unpack to: its files, and a header and padding
/// for each. Counted on what comes out, so no ratio of compression matters.
pub const STREAM: u64 = TREE + (ENTRIES as u64) * 1024;

// --- locks and plugin manifests ---

/// One lock. Those of the largest applications are near 2 MiB.
pub const LOCK: u64 = 16 * MIB;
/// Packages of one lock.
pub const LOCK_ENTRIES: usize = 10_000;
/// One `package.json`. The largest in use, of generated packages, are near 300 KiB.
pub const PACKAGE_JSON: u64 = MIB;
/// One plugin manifest, as printed and as stored: what fits a ConfigMap or an answer of ours.
pub const PLUGIN_MANIFEST: u64 = MIB;

// --- the OCI image ---

/// One layer as stored: refused when it is packed, so that it is never refused when pulled.
pub const LAYER: u64 = 256 * MIB;
/// The layer of facts: a manifest, a lock and two short files, unpacked.
pub const FACTS: u64 = 32 * MIB;
/// One OCI manifest; ours have under 2 KiB, and registries take 4 MiB.
pub const OCI_MANIFEST: u64 = MIB;
/// One OCI config.
pub const OCI_CONFIG: u64 = MIB;

// --- programs ---

/// What is read of npm's output; a list of versions is the longest.
pub const NPM_OUTPUT: u64 = 16 * MIB;

const _: () = assert!(FILE <= TREE && LOCK + PLUGIN_MANIFEST < FACTS);
