//! Inputs of the pure steps, named by what matters about them.

use std::sync::{Arc, LazyLock};

use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use paperclip_bridge::v1::WatchStatusResponse;
use paperclip_crds::v1alpha1::RevisionArtifact;
pub use paperclip_testkit::{assert_restricted, fixtures::*};

use super::{Plugin, desired::Desired};
use crate::{args::Args, pods::ObservedPod};

pub fn args() -> Args {
    Args::parse_from(OPERATOR_FLAGS)
}

/// Plugin `shop/commerce`, with its key.
pub fn plugin() -> Plugin {
    Plugin::parse(paperclip_testkit::fixtures::plugin()).unwrap()
}

pub fn desired<'a>(plugin: &'a Plugin, artifact: &'a RevisionArtifact) -> Desired<'a> {
    static GRANTED: LazyLock<Vec<String>> = LazyLock::new(|| vec!["a".to_owned()]);
    Desired {
        plugin,
        artifact,
        granted: &GRANTED,
        host: plugin.host_reference(),
        resources: plugin.worker().resources,
        activation: 3,
    }
}

pub fn seen(pod: Pod) -> ObservedPod {
    ObservedPod {
        pod: Arc::new(pod),
        status: None,
    }
}

pub fn plugin_pod(activation: u64, status: Option<WatchStatusResponse>) -> ObservedPod {
    let pod = Pod {
        metadata: activated(activation),
        ..Pod::default()
    };
    ObservedPod {
        status,
        ..seen(pod)
    }
}
