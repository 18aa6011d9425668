//! The bridge: the gRPC contract between plugin pods, hosts and the operator, and what each end
//! needs to speak it.
//!
//! [`v1`] holds the generated messages and services of package `paperclip.plugin.v1`; the contract
//! itself, with its guarantees, is written in `proto/paperclip/plugin/v1/bridge.proto`.

#[allow(missing_docs, clippy::all)]
/// Package `paperclip.plugin.v1`.
pub mod v1 {
    tonic::include_proto!("paperclip.plugin.v1");
}

pub mod client;
pub mod config;
pub mod facts;
mod limits;
pub mod link;
pub mod routing;
mod rpc_error;
pub mod status;
pub mod tls;
pub mod trace;

/// The contract as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bridge.bin"));
