//! Bounds of what is read of registries and layouts.

/// One OCI manifest; ours have under 2 KiB, and registries take 4 MiB.
pub const OCI_MANIFEST: u64 = 1024 * 1024;
