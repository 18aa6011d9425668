//! Every bound of packing and pulling, in one place, each with its reason.
//!
//! What is packed must be pullable, so both sides read the same number. The bounds are well
//! above any plugin seen and well below what hurts a node, a Job or the store. Those of OCI manifests and of redirects are where they
//! are read: [`paperclip_oci::limits`] and `paperclip-net-guard`.

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

// --- the npm registry ---

/// One document of metadata, as sent. Registries send a few MiB for packages with thousands
/// of versions, and compress that to a tenth.
pub const METADATA_SENT: u64 = 32 * MIB;
/// One document of metadata after decompression: with [`METADATA_AT_ONCE`] it bounds the
/// memory of the step.
pub const METADATA: u64 = 64 * MIB;
/// Documents of metadata in memory at one time: at their largest, as sent and after, they
/// take a quarter of the step's 2 GiB.
pub const METADATA_AT_ONCE: usize = 6;

// --- tarballs ---

/// One tarball as downloaded. Packages with a native program have some 50 MiB, and a few
/// command-line programs that no plugin needs have more than this.
pub const TARBALL: u64 = 128 * MIB;
/// Tarballs downloaded at one time: enough to hide latency, few enough for a small registry.
pub const TARBALLS_AT_ONCE: usize = 6;
/// Bytes of one file in a tarball. The largest native program seen has 272 MiB.
pub const FILE: u64 = 384 * MIB;
/// Files of one tarball. The largest packages, of icons, have some ten thousands.
pub const PACKAGE_FILES: usize = 65_536;
/// Parts of one path in a tarball. Trees that npm nests stay under 20.
pub const DEPTH: usize = 64;
/// Bytes of one pax header. npm writes under 1 KiB; a path may take [`PATH`] of it.
pub const PAX_HEADER: u64 = 16 * 1024;

// --- the installed tree, which is the second layer of an artifact ---

/// Bytes of all files. A pod that pulls by itself has this much on its node's disk, and the
/// layer beside it while it unpacks.
pub const TREE: u64 = 512 * MIB;
/// Files and folders: each is opened and hashed whenever a tree is checked.
pub const ENTRIES: usize = 100_000;
/// Bytes of one path: a quarter of what Linux takes, so that it fits below any mount point.
pub const PATH: usize = 1024;
/// Bytes of one part of a path: what Linux takes.
pub const NAME: usize = 255;
/// What a tar archive of a whole tree may unpack to: its files, and a header and padding
/// for each. Counted on what comes out, so no ratio of compression matters.
pub const STREAM: u64 = TREE + (ENTRIES as u64) * 1024;

// --- locks and plugin manifests ---

/// One lock. Those of large applications have 2 MiB.
pub const LOCK: u64 = 16 * MIB;
/// Packages of one lock.
pub const LOCK_ENTRIES: usize = 10_000;
/// One `package.json`. Generated ones of large packages have a third of it.
pub const PACKAGE_JSON: u64 = MIB;
/// One plugin manifest, as printed and as stored: what fits a ConfigMap or an answer of ours.
pub const PLUGIN_MANIFEST: u64 = MIB;

// --- the OCI image ---

/// One layer as stored: refused when it is packed, so that it is never refused when pulled.
pub const LAYER: u64 = 256 * MIB;
/// The layer of facts: a manifest, a lock and two short files, unpacked.
pub const FACTS: u64 = 32 * MIB;
/// One OCI config.
pub const OCI_CONFIG: u64 = MIB;

// --- programs ---

/// What is read of npm's output; a list of versions is the longest.
pub const NPM_OUTPUT: u64 = 16 * MIB;

const _: () = assert!(FILE <= TREE && LOCK + PLUGIN_MANIFEST < FACTS);
