//! The gRPC contract between plugin pods, hosts and the operator.
//!
//! [`v1`] holds the generated messages and services of package
//! `paperclip.plugin.v1`; the contract itself, with its guarantees, is written
//! in `proto/paperclip/plugin/v1/bridge.proto`.
//!
//! Without the feature `bridge`, which is on by default, there are only the [`methods`].

#[cfg(feature = "bridge")]
#[allow(missing_docs, clippy::all)]
/// Package `paperclip.plugin.v1`.
pub mod v1 {
    tonic::include_proto!("paperclip.plugin.v1");
}

#[cfg(feature = "bridge")]
pub mod client;
#[cfg(feature = "bridge")]
pub mod config;
#[cfg(feature = "bridge")]
pub mod facts;
#[cfg(feature = "bridge")]
pub mod identity;
#[cfg(feature = "bridge")]
pub mod jsonrpc;
#[cfg(feature = "bridge")]
pub mod limits;
#[cfg(feature = "bridge")]
pub mod link;
pub mod methods;
#[cfg(feature = "bridge")]
pub mod routing;
#[cfg(feature = "bridge")]
pub mod status;
#[cfg(feature = "bridge")]
pub mod tls;
#[cfg(feature = "bridge")]
pub mod trace;

#[cfg(feature = "bridge")]
/// The contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bridge.bin"));
