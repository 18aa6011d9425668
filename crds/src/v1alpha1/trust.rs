//! `PaperclipTrustPolicy`: which signatures an artifact must carry, and for what.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ConfigMapKey};

/// Which signatures the artifacts of certain plugins must carry.
///
/// Without any policy in the cluster nothing is asked for. As soon as there is one, an
/// artifact that no policy matches does not run; where several match, all of them must hold.
#[allow(
    clippy::duplicated_attributes,
    reason = "two printed columns have the same type"
)]
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "plugins.paperclip.ing",
    version = "v1alpha1",
    kind = "PaperclipTrustPolicy",
    plural = "papercliptrustpolicies",
    singular = "papercliptrustpolicy",
    shortname = "pctp",
    category = "paperclip",
    status = "PaperclipTrustPolicyStatus",
    doc = "PaperclipTrustPolicy says which signatures the artifacts of certain plugins must carry.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Plugins", type_ = "integer", json_path = ".status.plugins"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipTrustPolicySpec {
    /// What the policy is for. All of it must fit. Default: every plugin of the cluster.
    #[serde(default, rename = "match")]
    pub matches: PolicyMatch,
    /// What must hold, all of it. An empty list lets what matches run without a signature.
    #[schemars(length(max = 16))]
    pub require: Vec<TrustRequirement>,
}

/// What a policy is for.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyMatch {
    /// Namespaces of the plugins. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceMatch>,
    /// Names of packages; `*` at the end stands for any rest, as in `@acme/*`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 214), regex(pattern = r"^[^*]*\*?$"))
    )]
    pub packages: Vec<String>,
    /// URLs of registries, as the platform is installed with. A slash at the end makes no
    /// difference. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    pub registries: Vec<String>,
}

/// Namespaces by name or by label; either is enough.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) || has(self.labels)")
    .message("names or labels is required"))]
pub struct NamespaceMatch {
    /// Names of namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// Labels that a namespace must have, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub labels: BTreeMap<String, String>,
}

/// One thing that an artifact must carry.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.npmSignature) ? 1 : 0) + (has(self.npmProvenance) ? 1 : 0) + (has(self.cosign) ? 1 : 0) == 1")
    .message("exactly one of npmSignature, npmProvenance and cosign is required"))]
pub struct TrustRequirement {
    /// The npm registry's signature over name, version and integrity of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm_signature: Option<NpmSignatureRequirement>,
    /// A statement, signed by its builder, of where and how the package was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm_provenance: Option<IdentityRequirement>,
    /// A cosign signature of the source image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosign: Option<CosignRequirement>,
}

/// Keys of an npm registry.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.keys) != has(self.keysFrom)")
    .message("exactly one of keys and keysFrom is required"))]
pub struct NpmSignatureRequirement {
    /// The keys; one of them must have signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    pub keys: Vec<NpmRegistryKey>,
    /// A ConfigMap of the platform's namespace that holds what the registry answers under
    /// `/-/npm/v1/keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_from: Option<ConfigMapKey>,
}

/// A key of an npm registry.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NpmRegistryKey {
    /// Its id, as the registry's signatures name it.
    #[schemars(length(min = 1, max = 256))]
    pub keyid: String,
    /// The public key: PEM, or base64 without a frame, as the registry publishes it.
    #[schemars(length(min = 1, max = 4096))]
    pub key: String,
    /// RFC 3339. The key counts for what was published before; the time of publication is the
    /// registry's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires: Option<String>,
}

/// Who must have signed with a certificate instead of a key.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.identity) != has(self.identityRegexp)")
    .message("exactly one of identity and identityRegexp is required"))]
pub struct IdentityRequirement {
    /// The issuer of the identity, exactly, as in `https://token.actions.githubusercontent.com`.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The identity, exactly: a workflow's URL with its ref, or an e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub identity: Option<String>,
    /// A regular expression for the whole identity; it is anchored at both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub identity_regexp: Option<String>,
    /// URL of the source repository that the certificate must name. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub source_repository: Option<String>,
    /// Whose certificates and logs are believed. Default: the public Sigstore instance, as it
    /// was when the platform was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<TrustRootSource>,
}

/// A `trusted_root.json` of one's own.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inline) != has(self.configMap)")
    .message("exactly one of inline and configMap is required"))]
pub struct TrustRootSource {
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub inline: Option<String>,
    /// A ConfigMap of the platform's namespace that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
}

/// Who must have signed an image.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.key) != has(self.keyless)")
    .message("exactly one of key and keyless is required"))]
pub struct CosignRequirement {
    /// The public key, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub key: Option<String>,
    /// An identity, by a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<IdentityRequirement>,
}

/// What was observed of a policy.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipTrustPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every key, pattern and trust root that the policy names could be read.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of plugins that the policy matched when it was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<i64>,
}

/// What a plugin is matched by.
#[derive(Clone, Copy, Debug)]
pub struct PolicySubject<'a> {
    /// Namespace of the plugin.
    pub namespace: &'a str,
    /// Labels of that namespace.
    pub labels: &'a BTreeMap<String, String>,
    /// Name of the package.
    pub package: &'a str,
    /// URL of the registry it comes from.
    pub registry: &'a str,
}

impl PolicyMatch {
    /// Whether the policy is for this plugin.
    #[must_use]
    pub fn includes(&self, subject: &PolicySubject<'_>) -> bool {
        let Self {
            namespaces,
            packages,
            registries,
        } = self;
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        let registry = trimmed(subject.registry);
        namespaces
            .as_ref()
            .is_none_or(|namespaces| namespaces.includes(subject))
            && (packages.is_empty() || packages.iter().any(|one| fits(one, subject.package)))
            && (registries.is_empty() || registries.iter().any(|one| trimmed(one) == registry))
    }
}

impl NamespaceMatch {
    fn includes(&self, subject: &PolicySubject<'_>) -> bool {
        let has = |(name, value): (&String, &String)| subject.labels.get(name) == Some(value);
        self.names.iter().any(|name| name == subject.namespace)
            || (!self.labels.is_empty() && self.labels.iter().all(has))
    }
}

fn fits(pattern: &str, package: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => pattern == package,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(labels: &'a BTreeMap<String, String>, package: &'a str) -> PolicySubject<'a> {
        PolicySubject {
            namespace: "shop",
            labels,
            package,
            registry: "https://registry.example/",
        }
    }

    #[test]
    fn policy_without_a_match_is_for_everything() {
        let none = BTreeMap::new();
        assert!(PolicyMatch::default().includes(&subject(&none, "p")));
    }

    #[test]
    fn scope_matches_its_packages_and_no_name_that_begins_like_it() {
        let none = BTreeMap::new();
        let scope = PolicyMatch {
            packages: vec!["@acme/*".into(), "plain".into()],
            ..PolicyMatch::default()
        };
        for (package, fits) in [
            ("@acme/p", true),
            ("plain", true),
            ("@acmes/p", false),
            ("plainer", false),
        ] {
            assert_eq!(scope.includes(&subject(&none, package)), fits, "{package}");
        }
    }

    #[test]
    fn namespace_is_matched_by_name_or_by_all_labels_and_never_by_none() {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let by = |names: &[&str], wanted: &[(&str, &str)]| {
            let matches = PolicyMatch {
                namespaces: Some(NamespaceMatch {
                    names: names.iter().map(|&name| name.into()).collect(),
                    labels: wanted
                        .iter()
                        .map(|&(name, value)| (name.into(), value.into()))
                        .collect(),
                }),
                ..PolicyMatch::default()
            };
            matches.includes(&subject(&labels, "p"))
        };
        assert!(by(&["shop"], &[]));
        assert!(by(&[], &[("team", "a")]));
        assert!(!by(&["yard"], &[]));
        assert!(!by(&[], &[("team", "a"), ("tier", "b")]));
        assert!(!by(&[], &[]));
    }

    #[test]
    fn registry_is_matched_with_and_without_its_last_slash() {
        let none = BTreeMap::new();
        let by = |url: &str| PolicyMatch {
            registries: vec![url.into()],
            ..PolicyMatch::default()
        };
        assert!(by("https://registry.example").includes(&subject(&none, "p")));
        assert!(!by("https://registry.example.org").includes(&subject(&none, "p")));
    }
}
