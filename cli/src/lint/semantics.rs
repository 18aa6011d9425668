//! What the operator decides from the spec alone, before it asks anybody.

use ipnet::IpNet;
use jsonschema::error::ValidationErrorKind;
use kube::ResourceExt;
use paperclip_crds::v1alpha1::{
    NpmSource, PaperclipHost, PaperclipPlugin, PluginSecret, PluginSource, Reason, WorkerSpec,
};
use paperclip_packing_api::{
    naming::is_package_name,
    resolve::is_range,
    single_file::{SingleFile, SingleFileError},
};
use paperclip_plugin_manifest::WHOLE_MANIFEST;
use serde_json::{Map, Value};

use super::{Fault, document::escape, schema::wanted, shown};

/// Checks a plugin that the API server would take. `hosts` are those of the same files.
pub(super) fn check(plugin: &PaperclipPlugin, hosts: &[PaperclipHost]) -> Vec<Fault> {
    let spec = &plugin.spec;
    let mut faults = match &spec.source {
        PluginSource::Npm(source) => check_source(source),
        PluginSource::Http(_) | PluginSource::Oci(_) => Vec::new(),
        PluginSource::ConfigMap(_) => check_inline(spec.manifest.as_ref()),
    };
    faults.extend(check_host(plugin, hosts));
    faults.extend(check_paths(plugin));
    faults.extend(check_config(plugin));
    faults.extend(spec.worker.iter().flat_map(check_egress));
    faults
}

fn fault(at: impl Into<String>, reason: Reason, found: String, wanted: impl Into<String>) -> Fault {
    Fault {
        at: at.into(),
        reason: reason.name(),
        found,
        wanted: wanted.into(),
    }
}

fn quoted(text: &str) -> String {
    shown(&text.into())
}

/// What the packing request refuses and the schema's patterns let through.
fn check_source(source: &NpmSource) -> Vec<Fault> {
    let NpmSource {
        package,
        version,
        range,
        resolve_interval_seconds: _,
        lock: _,
        registry: _,
        credentials_secret: _,
    } = source;
    let mut faults = Vec::new();
    let mut refuse = |field, text, wanted| {
        let at = format!("/spec/source/npm/{field}");
        faults.push(fault(at, Reason::PackageRefused, quoted(text), wanted));
    };
    if !is_package_name(package) {
        refuse("package", package, "the name of an npm package");
    }
    if let Some(version) = version
        && semver::Version::parse(version).is_err()
    {
        refuse("version", version, "an exact version such as 1.2.3");
    }
    if let Some(range) = range
        && !is_range(range)
    {
        refuse("range", range, "a version range or a dist-tag");
    }
    faults
}

/// What a plugin of one file needs of its plugin manifest, and the rules of Paperclip for it.
fn check_inline(manifest: Option<&Map<String, Value>>) -> Vec<Fault> {
    let inline = SingleFile {
        manifest: Value::Object(manifest.cloned().unwrap_or_default()),
        worker: String::new(),
    };
    match inline.check() {
        Err(SingleFileError::Field {
            field,
            found,
            wanted,
        }) => vec![manifest_fault(field, found, wanted)],
        Err(SingleFileError::Manifest(error)) => {
            vec![manifest_fault(
                error.field(),
                error.found().to_owned(),
                error.wanted(),
            )]
        }
        Ok(()) => Vec::new(),
    }
}

/// A fault of a field of the plugin manifest, which is named as in `tools[1].name`.
fn manifest_fault(field: &str, found: String, wanted: &str) -> Fault {
    let pointer = field.replace('[', "/").replace(']', "").replace('.', "/");
    let at = match field {
        WHOLE_MANIFEST => "/spec/manifest".to_owned(),
        _ => format!("/spec/manifest/{pointer}"),
    };
    fault(at, Reason::ManifestInvalid, found, wanted)
}

/// A host that is written down beside the plugin, and does not let it in.
fn check_host(plugin: &PaperclipPlugin, hosts: &[PaperclipHost]) -> Option<Fault> {
    let (host_namespace, name) = plugin.host_reference();
    // Whose namespace is not known may be let in.
    let namespace = plugin.namespace()?;
    let is_named = |host: &&PaperclipHost| {
        host.name_any() == name && host.namespace().as_deref() == Some(&host_namespace)
    };
    let host = hosts.iter().find(is_named)?;
    let allowed = &host.spec.allowed_namespaces;
    (!allowed.allows(&namespace, &host_namespace)).then(|| {
        let wanted = format!(
            "namespace {namespace} in the host's spec.allowedNamespaces, or another host"
        );
        let found = format!(
            "PaperclipHost {host_namespace}/{name}, which does not allow plugins of namespace {namespace}"
        );
        fault("/spec/host", Reason::HostForbidden, found, wanted)
    })
}

/// Secrets whose place in the config is below something that is no object.
fn check_paths(plugin: &PaperclipPlugin) -> Vec<Fault> {
    let config = plugin.spec.config.clone().unwrap_or_default();
    let config = Value::Object(config.default);
    let blocked = |(index, secret): (usize, &PluginSecret)| {
        let path = secret.config_path.as_deref()?;
        let ends = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut above = ends.filter(|above| !above.is_empty());
        let above = above.find(|above| {
            config
                .pointer(above)
                .is_some_and(|found| !found.is_object())
        })?;
        Some(fault(
            format!("/spec/secrets/{index}/configPath"),
            Reason::ConfigInvalid,
            format!("{path}, which leads through {above}, which holds something that is no object"),
            "a path through objects of spec.config.default",
        ))
    };
    let secrets = plugin.spec.secrets.iter().enumerate();
    secrets.filter_map(blocked).collect()
}

/// Config against the `instanceConfigSchema` that `spec.manifest` pins. With `defaultFrom` the
/// config is not known here. A secret's place is the operator's to check: it has the value.
fn check_config(plugin: &PaperclipPlugin) -> Vec<Fault> {
    const SCHEMA: &str = "/spec/manifest/instanceConfigSchema";
    let config = plugin.spec.config.clone().unwrap_or_default();
    let pins = plugin.spec.manifest.as_ref();
    let Some(schema) = pins.and_then(|pins| pins.get("instanceConfigSchema")) else {
        return Vec::new();
    };
    let is_asked_for = schema.as_object().is_some_and(|schema| !schema.is_empty());
    if !is_asked_for || !config.default_from.is_empty() {
        return Vec::new();
    }
    let validator = jsonschema::options()
        .with_format("secret-ref", |_: &str| true)
        .build(schema);
    let validator = match validator {
        Ok(validator) => validator,
        Err(error) => {
            let found = error.masked().to_string();
            return vec![fault(SCHEMA, Reason::ConfigInvalid, found, "a JSON Schema")];
        }
    };
    let config = Value::Object(config.default);
    let paths = plugin.spec.secrets.iter();
    let paths: Vec<&str> = paths
        .filter_map(|secret| secret.config_path.as_deref())
        .collect();
    let errors = validator
        .iter_errors(&config)
        .flat_map(|error| broken(&error));
    errors
        .filter(|(at, ..)| !paths.iter().any(|path| leads(at, path) || leads(path, at)))
        .map(|(at, found, wanted)| {
            let at = format!("/spec/config/default{at}");
            fault(at, Reason::ConfigInvalid, found, wanted)
        })
        .collect()
}

/// Places at which a config breaks its schema, what was found there and what was wanted.
fn broken(error: &jsonschema::ValidationError<'_>) -> Vec<(String, String, String)> {
    let at = error.instance_path().to_string();
    let below = |name: &str| format!("{at}/{}", escape(name));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let at = below(property.as_str().unwrap_or_default());
            let wanted = "a value, which the package's instanceConfigSchema requires";
            vec![(at, "nothing".into(), wanted.into())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let wanted = "only fields that the package's instanceConfigSchema knows";
            let unknown = |name: &String| (below(name), "an unknown field".into(), wanted.into());
            unexpected.iter().map(unknown).collect()
        }
        kind => {
            let wanted = wanted(kind).map_or_else(
                || {
                    format!(
                        "what the package's instanceConfigSchema allows: {}",
                        error.masked()
                    )
                },
                |wanted| format!("{wanted}, as the package's instanceConfigSchema says"),
            );
            vec![(at, shown(error.instance()), wanted)]
        }
    }
}

/// Whether `below` is the place `above` or lies below it.
fn leads(above: &str, below: &str) -> bool {
    let rest = below.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Addresses that the API server would refuse in the plugin's NetworkPolicy.
fn check_egress(worker: &WorkerSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let wanted = "addresses as in 203.0.113.0/24";
    for (index, rule) in worker.egress.iter().enumerate() {
        let at = format!("/spec/worker/egress/{index}");
        let network = rule.cidr.parse::<IpNet>();
        if network.is_err() {
            let at = format!("{at}/cidr");
            faults.push(fault(at, Reason::ApplyFailed, quoted(&rule.cidr), wanted));
        }
        for (position, except) in rule.except.iter().enumerate() {
            let at = format!("{at}/except/{position}");
            let refuse = |wanted| fault(at, Reason::ApplyFailed, quoted(except), wanted);
            match (except.parse::<IpNet>(), &network) {
                (Err(_), _) => faults.push(refuse(wanted.to_owned())),
                (Ok(inner), Ok(outer)) if !is_part(&inner, outer) => {
                    faults.push(refuse(format!("a part of {}", rule.cidr)));
                }
                _ => {}
            }
        }
    }
    faults
}

/// Whether a block of addresses is a smaller one of the other.
fn is_part(inner: &IpNet, outer: &IpNet) -> bool {
    outer.contains(inner) && outer.prefix_len() < inner.prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_compared_by_their_leading_bits() {
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let holds = |outer: &str, inner: &str| is_part(&network(inner), &network(outer));
        assert!(holds("0.0.0.0/0", "10.0.0.0/8"));
        assert!(holds("2001:db8::/32", "2001:db8:1::/48"));
        assert!(!holds("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!holds("::/0", "10.0.0.0/8"));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "::/129", "example.com/8", ""] {
            assert!(wrong.parse::<IpNet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_leads_to_itself_and_below_by_whole_names() {
        assert!(leads("/mail", "/mail/password"));
        assert!(leads("", "/mail"));
        assert!(leads("/mail", "/mail"));
        assert!(!leads("/mail", "/mailbox"));
    }
}
