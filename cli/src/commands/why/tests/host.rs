//! The host that a plugin attaches to.

use super::*;

#[test]
fn host_is_absent() {
    let facts = held_by(
        ConditionType::HostAttached,
        Reason::HostAbsent,
        "No process of host paperclip/main has a session with the plugin.",
    );
    insta::assert_snapshot!("host_is_absent", told(&facts));
}

#[test]
fn host_does_not_exist() {
    let mut facts = held_by(
        ConditionType::HostAttached,
        Reason::HostNotFound,
        "PaperclipHost paperclip/main does not exist.",
    );
    facts.host = Seen::Missing;
    insta::assert_snapshot!("host_does_not_exist", told(&facts));
}

#[test]
fn host_is_not_ready() {
    let mut facts = held_by(
        ConditionType::HostAttached,
        Reason::HostAbsent,
        "No process of host paperclip/main has a session with the plugin.",
    );
    let refused = "secrets \"main-client-tls\" is forbidden";
    facts.host = Seen::There(host(broken(
        ConditionType::Ready,
        Reason::ApplyFailed,
        refused,
    )));
    insta::assert_snapshot!("host_is_not_ready", told(&facts));
}
