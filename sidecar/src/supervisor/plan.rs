//! How a worker is started and initialised.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::facts::{Facts, InstanceFacts};
use paperclip_protocol::methods::{self, Unsupported};
use paperclip_shim::protocol::Start;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::package::{Package, marker_of_this_node};

/// How the worker is to be started.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// The command for the shim.
    pub start: Start,
    /// Params of `initialize`.
    pub initialize: Bytes,
    /// The version of the protocol that the worker speaks; one that is not served starts nothing.
    pub version: Result<u32, Unsupported>,
    /// How often the worker is asked for its health.
    pub health_interval: Duration,
}

impl WorkerPlan {
    /// The plan for a package. Node's heap limit is three quarters of the memory limit.
    pub fn new(
        package: &Package,
        facts: &Facts,
        artifact: &std::path::Path,
        node: &str,
        path: &str,
        memory: Option<u64>,
        health_interval: Duration,
    ) -> Result<Self, serde_json::Error> {
        let mut arguments = vec![node.to_owned()];
        if let Some(bytes) = memory {
            let mebibytes = (bytes / 4 * 3 / (1024 * 1024)).max(16);
            arguments.push(format!("--max-old-space-size={mebibytes}"));
        }
        arguments.push(package.worker.display().to_string());
        let environment = [
            ("PATH", path),
            ("NODE_PATH", ""),
            ("NODE_ENV", "production"),
            ("TZ", "UTC"),
            ("PAPERCLIP_PLUGIN_ID", &facts.plugin_uid),
            ("PAPERCLIP_DEPLOYMENT_MODE", &facts.instance.deployment_mode),
            (
                "PAPERCLIP_DEPLOYMENT_EXPOSURE",
                &facts.instance.deployment_exposure,
            ),
        ];
        Ok(Self {
            start: Start {
                artifact: artifact.display().to_string(),
                marker: marker_of_this_node(&facts.marker).to_owned(),
                directory: package.directory.display().to_string(),
                arguments,
                environment: environment
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            },
            initialize: initialize_params(package, facts)?,
            version: methods::offered(package.api_version),
            health_interval,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitializeParams<'a> {
    manifest: &'a RawValue,
    config: serde_json::Map<String, serde_json::Value>,
    instance_info: &'a InstanceFacts,
    api_version: u32,
    database_namespace: Option<&'a str>,
}

fn initialize_params(package: &Package, facts: &Facts) -> Result<Bytes, serde_json::Error> {
    let params = InitializeParams {
        manifest: serde_json::from_slice(&package.manifest_json)?,
        // Always empty here, as in the original: config has a call of its own.
        config: serde_json::Map::new(),
        instance_info: &facts.instance,
        api_version: package.api_version,
        database_namespace: package.database_namespace.as_deref(),
    };
    serde_json::to_vec(&params).map(Bytes::from)
}
