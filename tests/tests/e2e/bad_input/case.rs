//! One bad input: what is applied, what must be said of it, and the proof that it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::release::{Release, VERSION};
use crate::support::{
    HOST, HOST_NAMESPACE, condition, eventually, get, kubectl, kubectl_with_input,
};

/// How long the operator may take to name what is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether anything more happens by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// Nothing, until a person acts: kstatus "Failed".
    Stalled,
    /// It is tried again: kstatus "InProgress".
    Reconciling,
}

/// One bad input.
pub struct Case {
    /// Name of the plugin.
    pub name: &'static str,
    /// `spec.source.npm.package`.
    pub package: String,
    /// `spec.source.npm.version`.
    pub version: &'static str,
    /// Fields of the spec beside source and host.
    pub spec: Value,
    /// The reason of `Ready`.
    pub reason: &'static str,
    /// What parts of the message must be: words of npm, the scheduler, the policy, the worker.
    pub says: &'static [&'static str],
    /// What the message must tell the reader to do.
    pub next: &'static str,
    /// Whether it is tried again.
    pub then: Then,
}

impl Case {
    /// A package of [`Release`], which is stalled by its own fault.
    pub fn new(
        name: &'static str,
        reason: &'static str,
        says: &'static [&'static str],
        next: &'static str,
    ) -> Self {
        Self {
            name,
            package: Release::package(name),
            version: VERSION,
            spec: json!({}),
            reason,
            says,
            next,
            then: Then::Stalled,
        }
    }

    /// Another package than the one of its own name.
    pub fn of_package(self, package: impl Into<String>) -> Self {
        Self {
            package: package.into(),
            ..self
        }
    }

    /// It is tried again.
    pub fn tried_again(self) -> Self {
        Self {
            then: Then::Reconciling,
            ..self
        }
    }
}

/// A plugin, as JSON that `kubectl apply` takes.
pub fn plugin(name: &str, package: &str, version: &str, spec: &Value) -> Value {
    let mut all = json!({
        "source": {"npm": {"package": package, "version": version}},
        "host": {"name": HOST, "namespace": HOST_NAMESPACE},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1",
        "kind": "PaperclipPlugin",
        "metadata": {"name": name},
        "spec": all,
    })
}

/// A case that was applied.
pub struct Trial {
    case: Case,
    namespace: String,
    applied: OffsetDateTime,
}

impl Trial {
    /// Applies cases together.
    pub fn apply(namespace: &str, cases: Vec<Case>) -> Result<Vec<Self>> {
        let items: Vec<Value> = cases
            .iter()
            .map(|case| plugin(case.name, &case.package, case.version, &case.spec))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let applied = OffsetDateTime::now_utc();
        kubectl_with_input(&["apply", "-n", namespace, "-f", "-"], &list.to_string())?;
        let trial = |case| Self {
            case,
            namespace: namespace.to_owned(),
            applied,
        };
        Ok(cases.into_iter().map(trial).collect())
    }

    /// The name of the plugin.
    pub fn name(&self) -> &'static str {
        self.case.name
    }

    fn plugin(&self) -> Result<Value> {
        get(&["paperclipplugin", self.case.name, "-n", &self.namespace])
    }

    /// Whether the plugin has been called what it is. Fails when the time is over.
    fn is_named(&self) -> Result<bool> {
        let plugin = self.plugin()?;
        let Case { name, reason, .. } = &self.case;
        let ready = condition(&plugin, "Ready");
        ensure!(ready["status"] != "True", "{name} works");
        if ready["reason"] != *reason {
            let is_late = OffsetDateTime::now_utc() - self.applied > LIMIT;
            ensure!(!is_late, "{name} is not {reason} after {LIMIT:?}: {plugin}");
            return Ok(false);
        }
        self.check(&plugin)?;
        let took = self.warned_at()? - self.applied;
        println!(
            "bad input, {name}: {reason} after {:.1} s: {}",
            took.as_seconds_f64(),
            ready["message"].as_str().unwrap_or_default(),
        );
        ensure!(took <= LIMIT, "{name} was {reason} after {took}");
        Ok(true)
    }

    /// What a person and kstatus read.
    fn check(&self, plugin: &Value) -> Result<()> {
        let Case {
            name,
            reason,
            says,
            next,
            then,
            ..
        } = &self.case;
        let status = &plugin["status"];
        let ready = condition(plugin, "Ready");
        ensure!(ready["status"] == "False", "{name}: {status}");
        ensure!(ready["reason"] == *reason, "{name}: {status}");
        let message = ready["message"].as_str().unwrap_or_default();
        for part in says.iter().chain([next]) {
            ensure!(message.contains(part), "{name}: no {part:?} in {message:?}");
        }
        let (is, is_not) = match then {
            Then::Stalled => ("Stalled", "Reconciling"),
            Then::Reconciling => ("Reconciling", "Stalled"),
        };
        ensure!(
            condition(plugin, is)["status"] == "True",
            "{name}: {status}"
        );
        ensure!(
            condition(plugin, is)["reason"] == *reason,
            "{name}: {status}"
        );
        ensure!(condition(plugin, is_not).is_null(), "{name}: {status}");
        ensure!(
            status["observedGeneration"] == plugin["metadata"]["generation"],
            "{name}: {status}"
        );
        Ok(())
    }

    /// It is still what it was called, nobody called it anything else in between, and one
    /// event said so.
    pub fn check_calm(&self) -> Result<()> {
        self.check(&self.plugin()?)?;
        self.warned_at().map(drop)
    }

    /// When the one warning came, which has the reason.
    pub fn warned_at(&self) -> Result<OffsetDateTime> {
        let name = self.case.name;
        let selector = format!("regarding.kind=PaperclipPlugin,regarding.name={name}");
        let warnings = eventually("the warning", Duration::from_secs(5), || {
            let events = get(&[
                "events.events.k8s.io",
                "-n",
                &self.namespace,
                "--field-selector",
                &selector,
            ])?;
            let events = events["items"].as_array().cloned().unwrap_or_default();
            let is_warning = |event: &Value| event["type"] == "Warning";
            let warnings: Vec<Value> = events.into_iter().filter(is_warning).collect();
            ensure!(!warnings.is_empty(), "no warning of {name}");
            Ok(warnings)
        })?;
        let reasons: Vec<_> = warnings.iter().map(|event| &event["reason"]).collect();
        ensure!(
            reasons == [self.case.reason],
            "{name}: warnings {reasons:?}"
        );
        time_of(&warnings[0]["eventTime"])
    }
}

fn time_of(value: &Value) -> Result<OffsetDateTime> {
    let text = value.as_str().context("a time")?;
    OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("{text} is no time"))
}

/// Waits until each was called what it is, in time.
pub fn judge(trials: &[Trial]) -> Result<()> {
    let mut open: Vec<&Trial> = trials.iter().collect();
    let mut failures = Vec::new();
    // Each of them fails by itself before that.
    eventually("each to be called what it is", 2 * LIMIT, || {
        open.retain(|trial| match trial.is_named() {
            Ok(named) => !named,
            Err(error) => {
                failures.push(format!("{error:#}"));
                false
            }
        });
        ensure!(open.is_empty(), "{} are left", open.len());
        Ok(())
    })?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// `kubectl wait` ends at once for each: what is not Ready, and what is stalled.
pub fn check_waits(namespace: &str, trials: &[Trial]) -> Result<()> {
    let wait = |what: &str, is_meant: &dyn Fn(&Case) -> bool| {
        let cases = trials.iter().filter(|trial| trial.namespace == namespace);
        let objects: Vec<String> = cases
            .filter(|trial| is_meant(&trial.case))
            .map(|trial| format!("paperclipplugin/{}", trial.case.name))
            .collect();
        let condition = format!("--for=condition={what}");
        let mut arguments = vec!["wait", "-n", namespace, &condition, "--timeout=10s"];
        arguments.extend(objects.iter().map(String::as_str));
        kubectl(&arguments).map(drop)
    };
    wait("Ready=False", &|_| true)?;
    wait("Stalled", &|case| case.then == Then::Stalled)
}

/// Has these packages in the store: each is packed for a plugin that does not roll out, since it
/// asks for a manifest of another id, and goes again.
pub fn pack_beforehand(namespace: &str, packages: &[&str]) -> Result<()> {
    let spec = json!({"manifest": {"id": "test.of-nobody"}});
    let of = |name: &&str| plugin(name, &Release::package(name), VERSION, &spec);
    let list = json!({"apiVersion": "v1", "kind": "List",
        "items": packages.iter().map(of).collect::<Vec<_>>()});
    kubectl_with_input(&["apply", "-n", namespace, "-f", "-"], &list.to_string())?;
    let objects = packages
        .iter()
        .map(|name| format!("paperclipplugin/{name}"));
    let objects: Vec<String> = objects.collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let wait = ["wait", "-n", namespace, "--for=condition=ArtifactReady"];
    kubectl(&[&wait[..], &["--timeout=180s"], &objects].concat())?;
    kubectl(&[&["delete", "-n", namespace, "--wait"], &objects[..]].concat())?;
    // What was said of them is not said of those who come after them.
    kubectl(&["delete", "events", "--all", "-n", namespace]).map(drop)
}
