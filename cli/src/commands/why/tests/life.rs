//! What people and upgrades do to a plugin.

use paperclip_crds::v1alpha1::{
    Grant, GrantOrigin, PaperclipPluginRevision, PaperclipPluginRevisionSpec,
    PaperclipPluginRevisionStatus, PluginSummary, RevisionArtifact, RevisionState, RevisionStatus,
};

use super::*;

fn revision(number: i64, version: &str, state: RevisionState) -> PaperclipPluginRevision {
    let spec = PaperclipPluginRevisionSpec {
        plugin: "tea".into(),
        number,
        artifact: RevisionArtifact {
            version: version.into(),
            ..RevisionArtifact::default()
        },
        manifest_digest: String::new(),
        summary: PluginSummary::default(),
        activation: number,
        template_hash: "t".into(),
        config_hash: "c".into(),
        secrets: Vec::new(),
        grant: Grant {
            origin: GrantOrigin::Pinned,
            capabilities: Vec::new(),
        },
        host: None,
        resources: Default::default(),
    };
    let mut revision = PaperclipPluginRevision::new(&format!("tea-{number}"), spec);
    revision.status = Some(PaperclipPluginRevisionStatus {
        state: Some(state),
        ..PaperclipPluginRevisionStatus::default()
    });
    revision
}

#[test]
fn plugin_is_ready() {
    let ready = condition(ConditionType::Ready, "True", Reason::Succeeded, "It works.");
    // What is no good about a plugin that works is no answer to why it does not.
    let network = broken(
        ConditionType::EgressEnforced,
        Reason::NotEnforced,
        "It got out.",
    );
    insta::assert_snapshot!(
        "plugin_is_ready",
        told(&known(plugin(vec![ready, network])))
    );
}

#[test]
fn plugin_is_suspended() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::Suspended,
        "spec.suspend is set.",
    );
    also(
        &mut observed,
        broken(
            ConditionType::HostAttached,
            Reason::Suspended,
            "spec.suspend is set.",
        ),
    );
    insta::assert_snapshot!("plugin_is_suspended", told(&observed));
}

#[test]
fn upgrade_was_rolled_back() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::RolledBack,
        "Revision 2 (1.1.0) did not come to serve within 300 s: The worker exited with code 1. Revision 1 runs again; revision 2 is not tried again until the resource requests something else.",
    );
    observed.revisions = vec![
        revision(1, "1.0.0", RevisionState::Active),
        revision(2, "1.1.0", RevisionState::Failed),
    ];
    observed.plugin.status.as_mut().unwrap().active_revision = Some(RevisionStatus {
        name: "tea-1".into(),
        number: 1,
        added_capabilities: Vec::new(),
    });
    insta::assert_snapshot!("upgrade_was_rolled_back", told(&observed));
}

#[test]
fn operator_does_not_run() {
    let ready = condition(ConditionType::Ready, "True", Reason::Succeeded, "It works.");
    let mut observed = known(plugin(vec![ready]));
    observed.plugin.metadata.generation = Some(3);
    insta::assert_snapshot!("operator_does_not_run", told(&observed));
}

#[test]
fn every_reason_has_a_next_step() {
    for reason in Reason::ALL {
        let observed = held_by(ConditionType::WorkerAvailable, *reason, "m");
        assert!(!explain(&observed).next.is_empty(), "{reason}");
    }
}
