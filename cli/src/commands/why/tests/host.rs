//! The host that a plugin attaches to.

use super::*;

#[test]
fn host_is_absent() {
    let observed = held_by(
        ConditionType::HostAttached,
        Reason::HostAbsent,
        "No process of host paperclip/main has a session with the plugin.",
    );
    insta::assert_snapshot!("host_is_absent", told(&observed));
}

#[test]
fn host_does_not_exist() {
    let mut observed = held_by(
        ConditionType::HostAttached,
        Reason::HostNotFound,
        "PaperclipHost paperclip/main does not exist.",
    );
    observed.host = Lookup::Missing;
    insta::assert_snapshot!("host_does_not_exist", told(&observed));
}

#[test]
fn host_is_not_ready() {
    let mut observed = held_by(
        ConditionType::HostAttached,
        Reason::HostAbsent,
        "No process of host paperclip/main has a session with the plugin.",
    );
    let refused = "secrets \"main-client-tls\" is forbidden";
    observed.host = Lookup::Found(host(broken(
        ConditionType::Ready,
        Reason::ApplyFailed,
        refused,
    )));
    insta::assert_snapshot!("host_is_not_ready", told(&observed));
}
