//! `doctor`: is the platform as it should be?

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
    },
    jiff::{Timestamp, ToSpan},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use paperclip_crds::{
    labels,
    v1alpha1::{PaperclipHost, PaperclipPlugin},
};
use serde::Serialize;

use super::Session;
use crate::{error::Error, output, table::Table};

const GROUP_VERSION: &str = "plugins.paperclip.ing/v1alpha1";
const KINDS: [&str; 3] = [
    "PaperclipPlugin",
    "PaperclipPluginRevision",
    "PaperclipHost",
];
/// Certificates live 90 days and are renewed after 60, so one with less than this was not.
const DAYS_LEFT: i64 = 25;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// A check and what was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
}

fn check(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check {
        check,
        verdict,
        found: found.into(),
    }
}

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let mut checks = vec![kinds(session).await];
    if checks[0].verdict == Verdict::Ok {
        checks.push(deployment(session, "operator").await);
        checks.push(deployment(session, "store").await);
        checks.extend(hosts(session).await);
        checks.push(plugins(session).await);
        checks.push(rights(session).await);
    }
    output::answer(session.global.output, &checks, || Ok(table(&checks)))?;
    let wrong = checks
        .iter()
        .filter(|one| one.verdict == Verdict::Fail)
        .count();
    if wrong == 0 {
        return Ok(());
    }
    Err(Error::NotReady {
        what: format!("{wrong} of {} checks failed", checks.len()),
        hint: String::new(),
    })
}

fn table(checks: &[Check]) -> String {
    let mut table = Table::new(["CHECK", "VERDICT", "FOUND"]);
    for one in checks {
        let verdict = format!("{:?}", one.verdict).to_lowercase();
        table.add_row([one.check.to_owned(), verdict, one.found.clone()]);
    }
    table.render()
}

/// What could not be looked at is no failure of the platform.
fn unseen(name: &'static str, error: &kube::Error) -> Check {
    check(name, Verdict::Warn, format!("cannot read: {error}"))
}

async fn kinds(session: &Session) -> Check {
    let client = &session.cluster.client;
    match client.list_api_group_resources(GROUP_VERSION).await {
        Ok(found) => {
            let has = |kind: &&&str| found.resources.iter().any(|one| one.kind == ***kind);
            let missing: Vec<_> = KINDS.iter().filter(|kind| !has(kind)).copied().collect();
            match missing.is_empty() {
                true => check("kinds", Verdict::Ok, GROUP_VERSION),
                false => check(
                    "kinds",
                    Verdict::Fail,
                    format!(
                        "missing: {}; upgrade the chart paperclip-crds",
                        missing.join(", ")
                    ),
                ),
            }
        }
        Err(kube::Error::Api(status)) if status.code == 404 => check(
            "kinds",
            Verdict::Fail,
            format!("{GROUP_VERSION} is not served; install the chart paperclip-crds"),
        ),
        Err(error) => unseen("kinds", &error),
    }
}

/// The platform's Deployment of this component, wherever it is installed.
async fn deployment(session: &Session, component: &'static str) -> Check {
    let api: Api<Deployment> = Api::all(session.cluster.client.clone());
    let selector = format!(
        "{}={component},{}=paperclip-platform",
        labels::COMPONENT,
        labels::NAME
    );
    match api.list(&ListParams::default().labels(&selector)).await {
        Ok(found) => judge_deployments(component, &found.items),
        Err(error) => unseen(component, &error),
    }
}

fn judge_deployments(component: &'static str, found: &[Deployment]) -> Check {
    let Some(deployment) = found.first() else {
        // A store may be another's registry.
        let verdict = if component == "store" {
            Verdict::Warn
        } else {
            Verdict::Fail
        };
        return check(
            component,
            verdict,
            "no Deployment of the chart paperclip-platform",
        );
    };
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas);
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let verdict = if available.unwrap_or(0) >= 1 {
        Verdict::Ok
    } else {
        Verdict::Fail
    };
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    check(
        component,
        verdict,
        format!(
            "{namespace}/{name}: {} of {wanted} available",
            available.unwrap_or(0)
        ),
    )
}

async fn hosts(session: &Session) -> Vec<Check> {
    let api: Api<PaperclipHost> = Api::all(session.cluster.client.clone());
    match api.list(&ListParams::default()).await {
        Ok(found) if found.items.is_empty() => vec![check(
            "host",
            Verdict::Warn,
            "there is none; install the chart paperclip-host",
        )],
        Ok(found) => found
            .items
            .iter()
            .map(|host| judge_host(host, Timestamp::now()))
            .collect(),
        Err(error) => vec![unseen("host", &error)],
    }
}

fn judge_host(host: &PaperclipHost, now: Timestamp) -> Check {
    let name = format!(
        "{}/{}",
        host.namespace().unwrap_or_default(),
        host.name_any()
    );
    let status = host.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .find(|found| found.type_ == "Ready");
    if let Some(ready) = ready.filter(|ready| ready.status != "True") {
        return check(
            "host",
            Verdict::Fail,
            format!("{name} is not Ready ({}): {}", ready.reason, ready.message),
        );
    }
    let expires = status
        .certificate_expires
        .as_deref()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let soon = now.checked_add((DAYS_LEFT * 24).hours()).ok();
    match (expires, soon) {
        (Some(expires), Some(soon)) if expires < soon => check(
            "host",
            Verdict::Warn,
            format!("{name}: its certificate ends {expires} and was not renewed"),
        ),
        _ => check("host", Verdict::Ok, name),
    }
}

async fn plugins(session: &Session) -> Check {
    let api: Api<PaperclipPlugin> = Api::all(session.cluster.client.clone());
    match api.list(&ListParams::default()).await {
        Ok(found) => judge_plugins(&found.items),
        Err(error) => unseen("plugins", &error),
    }
}

fn judge_plugins(plugins: &[PaperclipPlugin]) -> Check {
    let ready = |plugin: &&PaperclipPlugin| {
        let condition = plugin.condition(paperclip_crds::v1alpha1::ConditionType::Ready);
        condition.is_some_and(|ready| ready.status == "True")
    };
    let waiting: Vec<String> = plugins
        .iter()
        .filter(|plugin| !ready(plugin) && !plugin.spec.suspend)
        .map(|plugin| {
            format!(
                "{}/{}",
                plugin.namespace().unwrap_or_default(),
                plugin.name_any()
            )
        })
        .collect();
    if waiting.is_empty() {
        return check("plugins", Verdict::Ok, format!("{} plugins", plugins.len()));
    }
    let found = format!(
        "not Ready: {}; ask `kubectl paperclip why` about each",
        waiting.join(", ")
    );
    check("plugins", Verdict::Warn, found)
}

async fn rights(session: &Session) -> Check {
    let namespace = session.cluster.namespace().to_owned();
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some("plugins.paperclip.ing".into()),
                resource: Some("paperclipplugins".into()),
                verb: Some("create".into()),
                namespace: Some(namespace.clone()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(session.cluster.client.clone());
    match api.create(&PostParams::default(), &review).await {
        Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => check(
            "rights",
            Verdict::Ok,
            format!("you may create plugins in {namespace}"),
        ),
        Ok(_) => check(
            "rights",
            Verdict::Warn,
            format!("you may not create plugins in {namespace}"),
        ),
        Err(error) => unseen("rights", &error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operator_that_is_missing_or_down_fails_and_a_missing_store_is_only_told() {
        assert_eq!(judge_deployments("operator", &[]).verdict, Verdict::Fail);
        assert_eq!(judge_deployments("store", &[]).verdict, Verdict::Warn);
        let mut deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "paperclip-operator", "namespace": "paperclip-system"},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
        }))
        .unwrap();
        let found = judge_deployments("operator", std::slice::from_ref(&deployment));
        assert_eq!(
            (found.verdict, found.found.as_str()),
            (
                Verdict::Fail,
                "paperclip-system/paperclip-operator: 0 of 1 available"
            )
        );
        deployment.status.get_or_insert_default().available_replicas = Some(1);
        assert_eq!(
            judge_deployments("operator", &[deployment]).verdict,
            Verdict::Ok
        );
    }

    fn host(status: &str, expires: &str) -> PaperclipHost {
        serde_json::from_value(json!({
            "metadata": {"name": "main", "namespace": "paperclip"},
            "spec": {"service": {"name": "main"}},
            "status": {"certificateExpires": expires, "conditions": [
                {"type": "Ready", "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_certificate_that_was_not_renewed_is_told_before_it_ends() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(
            judge_host(&host("True", "2026-04-01T00:00:00Z"), now).verdict,
            Verdict::Ok
        );
        assert_eq!(
            judge_host(&host("True", "2026-01-10T00:00:00Z"), now).verdict,
            Verdict::Warn
        );
        assert_eq!(
            judge_host(&host("False", "2026-04-01T00:00:00Z"), now).verdict,
            Verdict::Fail
        );
    }

    #[test]
    fn checks_are_a_line_each() {
        let checks = [check("kinds", Verdict::Ok, GROUP_VERSION)];
        assert_eq!(
            table(&checks),
            "CHECK   VERDICT   FOUND\nkinds   ok        plugins.paperclip.ing/v1alpha1\n"
        );
    }
}
