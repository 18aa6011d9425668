//! `spec.limits` of a plugin that serves: they hold without a restart, and go as they came.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    replicas::{PLUGIN, apply, post},
    support::{COLD, Namespace, WARM, eventually, get, pod_of, worker_processes},
};

/// What must not change when only limits do.
#[derive(Debug, PartialEq)]
struct Untouched {
    pod: Value,
    worker: Vec<i32>,
    deployment: Value,
    revisions: Option<usize>,
}

fn untouched(namespace: &Namespace) -> Result<Untouched> {
    let ns = namespace.name();
    let deployment = get(&["deployment", &format!("pcp-{PLUGIN}"), "-n", ns])?;
    let revisions = get(&["paperclippluginrevisions", "-n", ns])?;
    Ok(Untouched {
        pod: pod_of(ns, PLUGIN)?["metadata"]["uid"].clone(),
        worker: worker_processes(ns, PLUGIN)?,
        deployment: deployment["metadata"]["generation"].clone(),
        revisions: revisions["items"].as_array().map(Vec::len),
    })
}

/// Ten calls at once that take half a second each: how many were done, and the refusals.
fn ten() -> Result<(usize, Vec<Value>)> {
    let answers = post((0..10).map(|_| json!({"sleep": 500})).collect())?;
    let mut refused = Vec::new();
    for (status, body) in &answers {
        match *status {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => refused.push(body.clone()),
            other => anyhow::bail!("{other}: {body}"),
        }
    }
    Ok((answers.len() - refused.len(), refused))
}

#[test]
fn limits_hold_and_go_without_a_restart() -> Result<()> {
    let namespace = Namespace::create("e2e-limits")?;
    apply(&namespace, &json!({}))?;
    namespace.wait_ready(PLUGIN, COLD)?;
    eventually("ten calls at once", WARM, || {
        let (done, refused) = ten()?;
        ensure!(done == 10, "{refused:?}");
        Ok(())
    })?;
    let before = untouched(&namespace)?;

    apply(
        &namespace,
        &json!({"limits": {"concurrency": 2, "queue": 3}}),
    )?;
    eventually("the limit to hold", WARM, || {
        let (done, refused) = ten()?;
        ensure!(done == 5, "{done} were done");
        let says = refused[0]["error"].as_str().context("an error")?;
        ensure!(
            says.contains("limit of concurrency is reached: 2 calls are under way, and 3 wait"),
            "{says}"
        );
        Ok(())
    })?;

    apply(&namespace, &json!({"limits": {"payloadBytes": 1024}}))?;
    eventually("the other limit to hold", WARM, || {
        let answers = post(vec![json!({"much": "x".repeat(2000)})])?;
        let (status, body) = &answers[0];
        ensure!(*status == StatusCode::PAYLOAD_TOO_LARGE, "{status}: {body}");
        Ok(())
    })?;

    apply(&namespace, &json!({}))?;
    eventually("the limits to go", WARM, || {
        let (done, refused) = ten()?;
        ensure!(done == 10, "{refused:?}");
        Ok(())
    })?;
    ensure!(untouched(&namespace)? == before);
    Ok(())
}
