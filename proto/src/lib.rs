//! The gRPC contract between plugin pods, hosts and the operator.
//!
//! [`v1`] holds the generated messages and services of package
//! `paperclip.plugin.v1`; the contract itself, with its guarantees, is written
//! in `proto/paperclip/plugin/v1/bridge.proto`.

#[allow(missing_docs, clippy::all)]
/// Package `paperclip.plugin.v1`.
pub mod v1 {
    tonic::include_proto!("paperclip.plugin.v1");
}

pub mod client;
pub mod config;
pub mod facts;
pub mod identity;
pub mod jsonrpc;
pub mod limits;
pub mod link;
pub mod methods;
pub mod routing;
pub mod status;
pub mod tls;
pub mod trace;

/// The contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bridge.bin"));
