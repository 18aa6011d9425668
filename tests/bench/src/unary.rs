//! A call at a time by the contract's unary method, as any gRPC client makes it.

use anyhow::Result;
use bytes::Bytes;
use paperclip_bridge::v1::{CallRequest, plugin_bridge_service_client::PluginBridgeServiceClient};
use tonic::transport::Channel;

use crate::load::Caller;

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Unary(pub PluginBridgeServiceClient<Channel>);

impl Caller for Unary {
    async fn answer(&self, params: Bytes) -> Result<Bytes> {
        let request = CallRequest {
            method: "getData".into(),
            params_json: params,
        };
        let response = self.0.clone().call(request).await?;
        Ok(response.into_inner().result_json)
    }
}
