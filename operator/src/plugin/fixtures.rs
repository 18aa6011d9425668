//! Inputs of the pure steps, named by what matters about them.

use std::sync::{Arc, LazyLock};

use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use paperclip_crds::v1alpha1::{PaperclipPlugin, RevisionArtifact};
use paperclip_bridge::v1::WatchStatusResponse;
pub use paperclip_testkit::{assert_restricted, fixtures::*};

use super::desired::Wanted;
use crate::{args::Args, pods::Seen};

pub fn args() -> Args {
    Args::parse_from(OPERATOR_FLAGS)
}

pub fn wanted<'a>(plugin: &'a PaperclipPlugin, artifact: &'a RevisionArtifact) -> Wanted<'a> {
    static GRANTED: LazyLock<Vec<String>> = LazyLock::new(|| vec!["a".to_owned()]);
    Wanted {
        plugin,
        artifact,
        granted: &GRANTED,
        host: plugin.host_reference(),
        resources: plugin.worker().resources,
        activation: 3,
    }
}

pub fn seen(pod: Pod) -> Seen {
    Seen {
        pod: Arc::new(pod),
        status: None,
    }
}

pub fn plugin_pod(activation: u64, status: Option<WatchStatusResponse>) -> Seen {
    let pod = Pod {
        metadata: activated(activation),
        ..Pod::default()
    };
    Seen {
        status,
        ..seen(pod)
    }
}
