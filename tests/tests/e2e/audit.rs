//! What was written down of everything the suite did. The API server's audit log: on no cluster
//! were our identities refused anything, and over all of them they used every right they have. The
//! npm registry's counts: nothing was downloaded twice.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::{HOST_NAMESPACE, PLATFORM_NAMESPACE, cluster, get};

/// A request as RBAC sees it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Used {
    user: String,
    verb: String,
    group: String,
    resource: String,
    namespace: String,
    /// Of one object, where a rule is for objects of these names only. Empty is every object.
    name: String,
}

impl Used {
    /// Whether this request takes a right of this rule.
    fn takes(&self, rule: &Self) -> bool {
        self.user == rule.user
            && self.verb == rule.verb
            && self.group == rule.group
            && self.resource == rule.resource
            && (rule.namespace.is_empty() || rule.namespace == self.namespace)
            && (rule.name.is_empty() || rule.name == self.name)
    }
}

/// Audit logs of all clusters that the suite ran on: those of other clusters are named by a
/// variable, like folders in `PATH`.
fn logs_of_all_clusters() -> Vec<PathBuf> {
    match std::env::var_os("PAPERCLIP_AUDIT_LOGS") {
        Some(logs) => std::env::split_paths(&logs).collect(),
        None => vec![cluster().audit_log()],
    }
}

/// Requests in a log of ServiceAccounts in our two namespaces, and those that were forbidden.
fn requests(log: &Path) -> Result<(BTreeSet<Used>, Vec<Value>)> {
    let file = File::open(log).with_context(|| format!("read {}", log.display()))?;
    let mut used = BTreeSet::new();
    let mut forbidden = Vec::new();
    for line in BufReader::new(file).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let ours = [PLATFORM_NAMESPACE, HOST_NAMESPACE]
            .iter()
            .any(|namespace| user.starts_with(&format!("system:serviceaccount:{namespace}:")));
        if !ours || event["stage"] != "ResponseComplete" && event["stage"] != "ResponseStarted" {
            continue;
        }
        // Into a namespace that is being deleted nobody may write, whatever their rights.
        let cause = &event["responseStatus"]["details"]["causes"][0]["reason"];
        if event["responseStatus"]["code"] == 403 && cause != "NamespaceTerminating" {
            forbidden.push(event.clone());
        }
        let field = |name: &str| {
            event["objectRef"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let subresource = field("subresource");
        let resource = field("resource");
        // Server-side apply of an object that was not there is a patch in the log and
        // needs the right to create.
        let verb = event["verb"].as_str().unwrap_or_default();
        let created = verb == "patch" && event["responseStatus"]["code"] == 201;
        let verbs = [Some(verb), created.then_some("create")];
        used.extend(verbs.into_iter().flatten().map(|verb| Used {
            user: user.to_owned(),
            verb: verb.to_owned(),
            group: field("apiGroup"),
            resource: if subresource.is_empty() {
                resource.clone()
            } else {
                format!("{resource}/{subresource}")
            },
            namespace: field("namespace"),
            name: field("name"),
        }));
    }
    Ok((used, forbidden))
}

/// One verb on one resource, or on one object of it where a rule names objects, that a binding
/// gives to one of our ServiceAccounts.
fn granted() -> Result<Vec<Used>> {
    let mut all = Vec::new();
    for (bindings, cluster_wide) in [("clusterrolebindings", true), ("rolebindings", false)] {
        let arguments: &[&str] = if cluster_wide {
            &[bindings]
        } else {
            &[bindings, "-A"]
        };
        let list = get(arguments)?;
        for binding in list["items"].as_array().context("bindings")? {
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                if subject["kind"] != "ServiceAccount"
                    || ![PLATFORM_NAMESPACE, HOST_NAMESPACE].contains(&namespace)
                {
                    continue;
                }
                let user = format!(
                    "system:serviceaccount:{namespace}:{}",
                    subject["name"].as_str().unwrap_or_default()
                );
                let scope = binding["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or_default();
                all.extend(rules_of(&binding["roleRef"], scope, &user)?);
            }
        }
    }
    Ok(all)
}

fn rules_of(role: &Value, scope: &str, user: &str) -> Result<Vec<Used>> {
    let name = role["name"].as_str().context("role name")?;
    let role = if role["kind"] == "ClusterRole" {
        get(&["clusterrole", name])?
    } else {
        get(&["role", name, "-n", scope])?
    };
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let mut all = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names = strings(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        let groups = strings(&rule["apiGroups"]);
        let resources = strings(&rule["resources"]);
        for (group, resource) in product(&groups, &resources) {
            for (verb, name) in product(&strings(&rule["verbs"]), &names) {
                all.push(Used {
                    user: user.to_owned(),
                    verb: verb.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    namespace: scope.to_owned(),
                    name: name.clone(),
                });
            }
        }
    }
    Ok(all)
}

/// Each of the first with each of the second.
fn product<'a>(
    first: &'a [String],
    second: &'a [String],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    let pairs = |one| second.iter().map(move |other| (one, other));
    first.iter().flat_map(pairs)
}

/// The client account exists for people and for the CLI, who are not asked by the API
/// server but by our host, through SubjectAccessReviews that the log holds as the host's.
fn checked_by_the_host(rule: &Used) -> bool {
    rule.user.ends_with("-client")
}

#[test]
fn audit_our_identities_were_refused_nothing() -> Result<()> {
    let (used, forbidden) = requests(&cluster().audit_log())?;
    ensure!(
        used.len() > 10,
        "the audit log shows {} kinds of requests only",
        used.len()
    );
    ensure!(
        forbidden.is_empty(),
        "{} refusals, first: {}",
        forbidden.len(),
        forbidden[0]
    );
    Ok(())
}

#[test]
fn overall_every_rule_bound_to_our_identities_was_used() -> Result<()> {
    let mut used = BTreeSet::new();
    for log in logs_of_all_clusters() {
        used.extend(requests(&log)?.0);
    }
    let unused: Vec<_> = granted()?
        .into_iter()
        .filter(|rule| !checked_by_the_host(rule))
        .filter(|rule| !used.iter().any(|request| request.takes(rule)))
        .collect();
    ensure!(unused.is_empty(), "rights nobody used: {unused:#?}");
    Ok(())
}

/// The registry counts for the whole life of the cluster, so this looks at the packings of every
/// test before it.
#[test]
fn audit_no_tarball_was_downloaded_twice() -> Result<()> {
    // A trust policy refuses this one first and another allows it later; see `trust`. Its bytes
    // belong to what is judged, and what is refused leaves no trace in the store.
    const JUDGED_TWICE: &str = "/paperclip-plugin-test-settings-7.1.0.tgz";
    let counts = cluster().npm().counts()?;
    let tarballs = counts.iter().filter(|(path, _)| path.ends_with(".tgz"));
    let tarballs: Vec<_> = tarballs.collect();
    println!("audit: {} tarballs were downloaded", tarballs.len());
    ensure!(!tarballs.is_empty(), "nothing was downloaded");
    let again: Vec<_> = tarballs
        .into_iter()
        .filter(|(path, count)| **count > 1 + u64::from(path.ends_with(JUDGED_TWICE)))
        .collect();
    ensure!(again.is_empty(), "downloaded more than once: {again:#?}");
    Ok(())
}
