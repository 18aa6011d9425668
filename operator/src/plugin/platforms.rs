//! For which platforms an artifact is packed, and on which nodes its pods may be.
//!
//! Platforms are only added: a node that goes changes nothing, and one that comes has an artifact
//! packed again where its tree differs by CPU and this CPU is not in it.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_crds::v1alpha1::{ANY_PLATFORM, ArtifactStatus, RevisionArtifact};
use paperclip_packing_api::request::PackRequest;

use crate::nodes::{ARCHITECTURE, OS};

/// What is asked for: what the artifact that is there was asked for, if it is of the same
/// source, else what the nodes are.
#[must_use]
pub fn request(
    request: PackRequest,
    artifact: Option<&ArtifactStatus>,
    nodes: Platforms,
) -> PackRequest {
    if let Some(artifact) = artifact {
        let before = PackRequest {
            platforms: packed_for(artifact),
            ..request.clone()
        };
        if before.name() == artifact.request {
            return before;
        }
    }
    PackRequest {
        platforms: nodes,
        ..request
    }
}

/// Platforms that an artifact is to be packed again for; `None` while it will do.
#[must_use]
pub fn grown(artifact: &ArtifactStatus, nodes: &Platforms) -> Option<Platforms> {
    let before = packed_for(artifact);
    let is_any = artifact.platforms.iter().any(|name| name == ANY_PLATFORM);
    let is_enough = nodes.iter().all(|platform| before.contains(platform));
    (!is_any && !is_enough).then(|| before.and(nodes))
}

/// Platforms that were requested of an artifact. Those of a release that knew one platform do not say.
fn packed_for(artifact: &ArtifactStatus) -> Platforms {
    let named = artifact.packed_for.iter();
    let named: Platforms = named.filter_map(|name| name.parse().ok()).collect();
    if named.is_empty() {
        return Platforms::default();
    }
    named
}

/// The platforms of an artifact as status tells of them.
#[must_use]
pub fn names(platforms: &[Platform]) -> Vec<String> {
    match platforms {
        [] => vec![ANY_PLATFORM.to_owned()],
        named => named.iter().map(Platform::to_string).collect(),
    }
}

/// Keeps pods to nodes that the artifact is for. One that runs everywhere keeps them nowhere.
#[must_use]
pub fn affinity(artifact: &RevisionArtifact) -> Option<Affinity> {
    let named = artifact.platforms.iter();
    let named: Vec<Platform> = named.filter_map(|name| name.parse().ok()).collect();
    let architectures = named.iter().filter_map(Platform::oci_architecture);
    let architectures: Vec<_> = architectures.map(str::to_owned).collect();
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![
            is_one_of(OS, vec!["linux".into()]),
            is_one_of(ARCHITECTURE, architectures),
        ]),
        ..NodeSelectorTerm::default()
    };
    (!named.is_empty()).then(|| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    })
}

fn is_one_of(label: &str, values: Vec<String>) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: label.into(),
        operator: "In".into(),
        values: Some(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{fixtures, packing};

    const X64: &str = "linux/amd64";
    const ARM64: &str = "linux/arm64";

    fn set(names: &[&str]) -> Platforms {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn asked(platforms: &[&str]) -> PackRequest {
        let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &fixtures::args());
        PackRequest {
            platforms: set(platforms),
            ..request
        }
    }

    /// An artifact that was packed for some platforms and is for some.
    fn artifact(packed_for: &[&str], platforms: &[&str]) -> ArtifactStatus {
        ArtifactStatus {
            request: asked(packed_for).name(),
            packed_for: texts(packed_for),
            platforms: texts(platforms),
            ..fixtures::artifact()
        }
    }

    #[test]
    fn something_new_is_packed_for_the_nodes() {
        let found = request(asked(&[X64]), None, set(&[ARM64]));
        assert_eq!(found, asked(&[ARM64]));
        let of_another_version = artifact(&[X64], &[X64]);
        let next = PackRequest {
            version: "2.0.0".into(),
            ..asked(&[X64])
        };
        let found = request(next, Some(&of_another_version), set(&[X64, ARM64]));
        assert_eq!(found.platforms, set(&[X64, ARM64]));
    }

    #[test]
    fn what_is_there_is_asked_for_as_it_was_whatever_nodes_come_and_go() {
        let packed = artifact(&[X64, ARM64], &[X64, ARM64]);
        for nodes in [set(&[X64]), set(&[ARM64]), set(&[X64, ARM64])] {
            let found = request(asked(&[X64]), Some(&packed), nodes);
            assert_eq!(found.name(), packed.request);
        }
        let of_an_older_release = ArtifactStatus {
            request: asked(&[X64]).name(),
            ..fixtures::artifact()
        };
        let found = request(asked(&[ARM64]), Some(&of_an_older_release), set(&[ARM64]));
        assert_eq!(found.name(), of_an_older_release.request);
    }

    #[test]
    fn what_differs_by_cpu_is_packed_again_for_a_cpu_it_was_not_packed_for() {
        let bound = artifact(&[X64], &[X64]);
        assert_eq!(grown(&bound, &set(&[X64])), None);
        assert_eq!(grown(&bound, &set(&[])), None);
        assert_eq!(grown(&bound, &set(&[ARM64])), Some(set(&[X64, ARM64])));
        // It has nothing for that CPU, which was found out once.
        let tried = artifact(&[X64, ARM64], &[X64]);
        assert_eq!(grown(&tried, &set(&[X64, ARM64])), None);
        let anywhere = artifact(&[X64], &[ANY_PLATFORM]);
        assert_eq!(grown(&anywhere, &set(&[X64, ARM64])), None);
        // Nobody knows of one that an earlier release packed.
        let unknown = artifact(&[], &[]);
        assert_eq!(grown(&unknown, &set(&[X64])), None);
        assert_eq!(
            grown(&unknown, &set(&[X64, ARM64])),
            Some(set(&[X64, ARM64]))
        );
    }

    #[test]
    fn pods_are_kept_to_the_nodes_that_an_artifact_is_for() {
        let of = |names: &[&str]| {
            let artifact = RevisionArtifact {
                platforms: texts(names),
                ..fixtures::packed()
            };
            affinity(&artifact).map(|found| serde_json::to_value(found).unwrap())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[ANY_PLATFORM]), None);
        let terms = serde_json::json!([{"matchExpressions": [
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
        ]}]);
        let required = &of(&[X64, ARM64]).unwrap()["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(required["nodeSelectorTerms"], terms);
    }
}
