//! The NetworkPolicy of a plugin: hosts and the operator dial in, and out goes nothing but
//! name lookups, the artifact store and what `spec.worker.egress` opens.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
        NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use paperclip_crds::v1alpha1::{EgressRule, PortProtocol};
use paperclip_pod_layout::port as layout;

use super::desired::Desired;
use crate::args::Args;

/// Label that the API server puts on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policy of the plugin's pods.
#[must_use]
pub fn build_network_policy(wanted: &Desired<'_>, args: &Args) -> NetworkPolicy {
    let (host_namespace, _) = &wanted.host;
    let worker = wanted.plugin.worker();
    let opened = worker.egress.iter().map(build_opening);
    NetworkPolicy {
        metadata: wanted.metadata(""),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(wanted.selector()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: Some(vec![
                        in_namespace(host_namespace),
                        in_namespace(&args.namespace),
                    ]),
                    ports: Some(vec![port("TCP", layout::GRPC.into())]),
                },
                // Probes and metrics, which hold no secret.
                NetworkPolicyIngressRule {
                    from: None,
                    ports: Some(vec![port("TCP", layout::HEALTH.into())]),
                },
            ]),
            egress: Some(
                [build_lookup(), build_store(args)]
                    .into_iter()
                    .chain(opened)
                    .collect(),
            ),
        }),
    }
}

fn build_lookup() -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: None,
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// The store in the platform's namespace, or the port of one elsewhere: a policy knows
/// addresses and labels, and a registry outside has neither.
fn build_store(args: &Args) -> NetworkPolicyEgressRule {
    let number = args
        .store_pull()
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or(443);
    NetworkPolicyEgressRule {
        to: args
            .store_service
            .is_some()
            .then(|| vec![in_namespace(&args.namespace)]),
        ports: Some(vec![port("TCP", number)]),
    }
}

fn build_opening(rule: &EgressRule) -> NetworkPolicyEgressRule {
    let ports = rule.ports.iter().map(|opened| {
        let protocol = match opened.protocol {
            PortProtocol::Tcp => "TCP",
            PortProtocol::Udp => "UDP",
        };
        port(protocol, opened.port)
    });
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: rule.cidr.clone(),
                except: (!rule.except.is_empty()).then(|| rule.except.clone()),
            }),
            ..NetworkPolicyPeer::default()
        }]),
        ports: (!rule.ports.is_empty()).then(|| ports.collect()),
    }
}

fn in_namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(NAMESPACE_NAME.into(), name.to_owned())])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use paperclip_crds::v1alpha1::{EgressPort, WorkerSpec};
    use serde_json::json;

    fn egress(worker: Option<WorkerSpec>, args: &Args) -> serde_json::Value {
        let (mut plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        plugin.spec.worker = worker;
        let policy = build_network_policy(&fixtures::desired(&plugin, &artifact), args);
        serde_json::to_value(policy.spec.unwrap().egress).unwrap()
    }

    #[test]
    fn nothing_goes_out_but_lookups_and_the_store() {
        let platform =
            json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "paperclip-system"}}});
        assert_eq!(
            egress(None, &fixtures::args()),
            json!([
                {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {"to": [platform], "ports": [{"protocol": "TCP", "port": 5000}]},
            ])
        );
    }

    #[test]
    fn what_the_spec_opens_is_open() {
        let worker = WorkerSpec {
            egress: vec![EgressRule {
                cidr: "203.0.113.0/24".into(),
                except: Vec::new(),
                ports: vec![EgressPort {
                    port: 443,
                    protocol: PortProtocol::Tcp,
                }],
            }],
            ..WorkerSpec::default()
        };
        assert_eq!(
            egress(Some(worker), &fixtures::args())[2],
            json!({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]})
        );
    }
}
