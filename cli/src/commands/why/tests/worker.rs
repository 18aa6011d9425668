//! The worker in its container.

use super::*;

#[test]
fn worker_crashes_again_and_again() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::WorkerExited,
        "The worker exited with code 1.",
    );
    also(
        &mut observed,
        broken(
            ConditionType::HostAttached,
            Reason::HostAbsent,
            "No process of host paperclip/main has a session with the plugin.",
        ),
    );
    let mut worker = container(
        "worker",
        waiting(
            "CrashLoopBackOff",
            "back-off 40s restarting failed container",
        ),
    );
    worker.restart_count = 4;
    worker.last_state = Some(ended(
        1,
        "Error: Cannot find module './kettle'\n    at node:internal/modules",
    ));
    observed.pods = vec![pod(
        "pcp-tea-1",
        vec![worker, container("sidecar", running())],
    )];
    insta::assert_snapshot!("worker_crashes", told(&observed));
}

#[test]
fn worker_hangs() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::WorkerUnresponsive,
        "The worker has not answered health for 30 s.",
    );
    observed.pods = vec![pod("pcp-tea-1", vec![container("worker", running())])];
    observed.events = vec![warning(
        "Pod",
        "pcp-tea-1",
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        9,
    )];
    insta::assert_snapshot!("worker_hangs", told(&observed));
}

#[test]
fn what_a_worker_says_last_is_shortened_and_drives_no_terminal() {
    use crate::commands::why::pods::trouble;
    let words = format!("{}\x1b[31mthe end", "x".repeat(500));
    let (_, line) = trouble(&pod("p", vec![container("worker", ended(1, &words))])).unwrap();
    assert!(
        line.starts_with("pod p: container worker ended with code 1: …xxx"),
        "{line}"
    );
    assert!(line.ends_with("x [31mthe end"), "{line}");
    assert_eq!(
        line.matches('x').count(),
        400 - " [31mthe end".len(),
        "{line}"
    );
}

#[test]
fn a_container_that_starts_is_no_trouble() {
    use crate::commands::why::pods::trouble;
    for state in [
        waiting("ContainerCreating", ""),
        running(),
        ended(0, "done"),
    ] {
        let mut starting = container("worker", state);
        starting.last_state = Some(ended(0, ""));
        assert_eq!(trouble(&pod("p", vec![starting])), None);
    }
}
