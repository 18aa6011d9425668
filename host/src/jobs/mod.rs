//! Jobs: slots of schedules and manual triggers, claimed in the database, run by a worker.

mod cron;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use cron::Schedule;
use paperclip_error_chain::chain;

use crate::{
    calls, clock,
    company::COMPANY_ID,
    database::{DatabaseError, DueJob, JobRow, Outcome, Trigger},
    host::Host,
    manifest::Manifest,
    plugins::{Plugin, Release},
};

/// How often the schedules are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How late a slot may still run. Slots that were missed while the host or the worker was down are skipped.
const GRACE: TimeDelta = TimeDelta::seconds(60);

/// Makes the jobs of a plugin those of the pod that takes new work. `arriving` is a pod that is
/// about to serve: its jobs are there before it gets work.
pub async fn follow(
    host: &Host,
    plugin: &Plugin,
    arriving: Option<&Release>,
) -> Result<(), DatabaseError> {
    let mut synced = plugin.lock_jobs().await;
    let serving = plugin.serving_pod();
    let arriving = arriving.filter(|release| plugin.leads(release));
    let Some(release) = arriving.or(serving.as_ref().map(|pod| &**pod.release())) else {
        return Ok(());
    };
    if *synced != Some(release.activation) {
        sync(host, plugin, &release.manifest).await?;
        *synced = Some(release.activation);
    }
    Ok(())
}

async fn sync(host: &Host, plugin: &Plugin, manifest: &Manifest) -> Result<(), DatabaseError> {
    let now = host.clock.now();
    let jobs: Vec<_> = manifest
        .jobs
        .iter()
        .map(|job| {
            let schedule = job.schedule.as_deref().unwrap_or_default();
            (
                job.job_key.as_str(),
                schedule,
                next_slot(plugin, &job.job_key, schedule, now),
            )
        })
        .collect();
    host.database.sync_jobs(&plugin.id().uid, &jobs).await
}

/// Runs a job now, in the background. None when it is already running.
pub async fn trigger(
    host: &Arc<Host>,
    plugin: &Arc<Plugin>,
    job: &JobRow,
) -> Result<Option<String>, DatabaseError> {
    begin(
        host,
        plugin,
        &job.id,
        &job.job_key,
        Trigger::Manual,
        clock::now(),
    )
    .await
}

/// Runs jobs as their schedules say, until the host is told to stop.
pub async fn schedule(host: Arc<Host>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while host
        .draining
        .run_until_cancelled(ticks.tick())
        .await
        .is_some()
    {
        if let Err(failure) = run_due(&host, host.clock.now()).await {
            error!(error = chain(&failure), "reading the schedules failed");
        }
    }
}

async fn run_due(host: &Arc<Host>, now: DateTime<Utc>) -> Result<(), DatabaseError> {
    for job in host.database.due_jobs(now).await? {
        let Some(plugin) = host.plugins.get(&job.plugin_id) else {
            continue;
        };
        let late = is_late(&job, now);
        if !late && !plugin.serves() {
            continue;
        }
        if !late {
            let slot = job.next_run_at.clone();
            let begun = begin(
                host,
                &plugin,
                &job.id,
                &job.job_key,
                Trigger::Schedule,
                slot,
            )
            .await?;
            if begun.is_none() {
                warn!(plugin = %plugin.id(), job = job.job_key, slot = job.next_run_at, "slot skipped, an earlier run goes on");
            }
        }
        let next = next_slot(&plugin, &job.job_key, &job.schedule, now);
        host.database.move_job(&job.id, next).await?;
    }
    Ok(())
}

fn is_late(job: &DueJob, now: DateTime<Utc>) -> bool {
    job.next_run_at
        .parse::<DateTime<Utc>>()
        .is_ok_and(|slot| now - slot > GRACE)
}

fn next_slot(
    plugin: &Plugin,
    key: &str,
    schedule: &str,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if schedule.is_empty() {
        return None;
    }
    match schedule.parse::<Schedule>() {
        Ok(schedule) => schedule.next_after(now),
        Err(error) => {
            warn!(plugin = %plugin.id(), job = key, %error, "job is never scheduled");
            None
        }
    }
}

async fn begin(
    host: &Arc<Host>,
    plugin: &Arc<Plugin>,
    job: &str,
    job_key: &str,
    trigger: Trigger,
    scheduled_at: String,
) -> Result<Option<String>, DatabaseError> {
    let company = (!host.strict_scopes).then_some(COMPANY_ID);
    let claimed = host
        .database
        .claim_run(&plugin.id().uid, job, trigger, &scheduled_at, company)
        .await?;
    if let Some(run) = &claimed {
        let work = run_job(
            Arc::clone(host),
            Arc::clone(plugin),
            Run {
                job: job.to_owned(),
                job_key: job_key.to_owned(),
                id: run.clone(),
                trigger,
                scheduled_at,
                company,
            },
        );
        host.runs.spawn(work);
    }
    Ok(claimed)
}

struct Run {
    job: String,
    job_key: String,
    id: String,
    trigger: Trigger,
    scheduled_at: String,
    company: Option<&'static str>,
}

async fn run_job(host: Arc<Host>, plugin: Arc<Plugin>, run: Run) {
    let begun = Instant::now();
    let params = json!({"job": {
        "jobKey": run.job_key,
        "runId": run.id,
        "trigger": run.trigger.as_str(),
        "scheduledAt": run.scheduled_at,
    }});
    let work = async {
        host.database.start_run(&run.job, &run.id).await?;
        let answered = host
            .stop
            .run_until_cancelled(calls::call(&host, &plugin, "runJob", &params, run.company))
            .await;
        let outcome = match answered {
            Some(Ok(_)) => Outcome::Succeeded,
            Some(Err(failure)) => Outcome::Failed(failure.fault.message),
            None => Outcome::Failed("the host stopped before the worker answered".to_owned()),
        };
        let duration = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        host.database
            .finish_run(&run.id, &outcome, duration)
            .await?;
        Ok::<_, DatabaseError>(outcome)
    };
    let id = plugin.id();
    match work.await {
        Ok(outcome) => {
            info!(plugin = %id, job = run.job_key, run = run.id, ?outcome, "job run ended");
        }
        Err(failure) => {
            error!(plugin = %id, job = run.job_key, run = run.id, error = chain(&failure), "job run could not be recorded");
        }
    }
}
