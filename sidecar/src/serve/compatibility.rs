//! The compatibility matrix as a gRPC service: versions of the worker protocol and their methods.

use paperclip_proto::{
    identity::Identity,
    methods::{self, Direction, Supported, Version},
    tls::Peer,
    v1::{
        ApiVersion, GetCompatibilityRequest, GetCompatibilityResponse, MethodDirection,
        SupportedMethod, plugin_compatibility_service_server::PluginCompatibilityService,
    },
};
use tonic::{Request, Response, Status};

use super::bridge::require;

/// The service.
#[derive(Debug)]
pub struct Compatibility {
    host: Identity,
    plugin_api_version: u32,
}

impl Compatibility {
    /// Tells `host` and the operator, beside a plugin of that version.
    pub fn new(host: Identity, plugin_api_version: u32) -> Self {
        Self {
            host,
            plugin_api_version,
        }
    }
}

#[tonic::async_trait]
impl PluginCompatibilityService for Compatibility {
    async fn get_compatibility(
        &self,
        request: Request<GetCompatibilityRequest>,
    ) -> Result<Response<GetCompatibilityResponse>, Status> {
        let peer = request.extensions().get::<Peer>();
        if peer.is_none_or(|peer| peer.identity != Identity::Operator) {
            require(&request, &self.host)?;
        }
        Ok(Response::new(matrix(self.plugin_api_version)))
    }
}

/// The matrix of this release.
fn matrix(plugin_api_version: u32) -> GetCompatibilityResponse {
    GetCompatibilityResponse {
        sidecar_version: env!("CARGO_PKG_VERSION").to_owned(),
        plugin_api_version,
        session_api_version: methods::SPOKEN,
        api_versions: methods::OFFERED.iter().map(api_version).collect(),
    }
}

fn api_version(version: &Version) -> ApiVersion {
    ApiVersion {
        number: version.number,
        since: version.since.to_owned(),
        methods: version.methods().map(method).collect(),
    }
}

fn method(method: Supported) -> SupportedMethod {
    SupportedMethod {
        name: method.name.to_owned(),
        session_name: method.spoken.to_owned(),
        direction: direction(method.direction).into(),
        capability: method.capability.unwrap_or_default().to_owned(),
        since: method.since.to_owned(),
    }
}

fn direction(direction: Direction) -> MethodDirection {
    match direction {
        Direction::HostAsks => MethodDirection::HostAsks,
        Direction::HostTells => MethodDirection::HostTells,
        Direction::WorkerAsks => MethodDirection::WorkerAsks,
        Direction::WorkerTells => MethodDirection::WorkerTells,
    }
}
