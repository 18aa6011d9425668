//! `job`: a plugin's jobs, their runs, and starting one.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Session;
use crate::{
    args::{JobCommand, PluginName},
    error::Error,
    host::{Host, segment},
    output,
    plugin::Plugin,
    table::Table,
};

/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(
    session: &Session,
    name: &PluginName,
    command: &JobCommand,
) -> Result<(), Error> {
    let (plugin, host) = session.open(name).await?;
    let mut jobs = Jobs { plugin, host };
    match command {
        JobCommand::List => {
            let all = jobs.list().await?;
            output::answer(session.global.output, &all, || Ok(job_table(&all)))
        }
        JobCommand::Runs { key } => {
            let job = jobs.find(key).await?;
            let runs = jobs.runs(&job, key).await?;
            output::answer(session.global.output, &runs, || Ok(run_table(&runs)))
        }
        JobCommand::Trigger { key, wait } => {
            let answer = jobs.trigger(key).await?;
            let run = answer["runId"].as_str().unwrap_or_default().to_owned();
            if !wait {
                return output::answer(session.global.output, &answer, || {
                    Ok(format!("run {run} of job {key} started\n"))
                });
            }
            let job = answer["jobId"].as_str().unwrap_or_default();
            let patience = session.global.request_timeout;
            let ended = jobs.wait(job, key, &run, patience).await?;
            report(session, key, &ended)
        }
    }
}

/// Prints a run that has ended; a run that did not succeed is an error.
fn report(session: &Session, key: &str, run: &Value) -> Result<(), Error> {
    let status = cell(run, "status");
    output::answer(session.global.output, run, || {
        Ok(format!("run {} of job {key}: {status}\n", cell(run, "id")))
    })?;
    match status.as_str() {
        "succeeded" => Ok(()),
        _ => Err(Error::Failed(format!(
            "job {key} ended with {status}: {}",
            run["error"].as_str().unwrap_or("the run has no error text")
        ))),
    }
}

/// The jobs of one plugin on its host.
struct Jobs {
    plugin: Plugin,
    host: Host,
}

impl Jobs {
    async fn list(&mut self) -> Result<Value, Error> {
        let doing = format!("list jobs of plugin {}", self.plugin.full_name());
        let path = format!("/api/plugins/{}/jobs", segment(&self.plugin.uid()));
        self.host.get(&doing, &path).await
    }

    /// The id of the job with this key.
    async fn find(&mut self, key: &str) -> Result<String, Error> {
        let all = self.list().await?;
        let jobs = || all.as_array().into_iter().flatten();
        if let Some(job) = jobs().find(|job| job["jobKey"] == key) {
            return Ok(cell(job, "id"));
        }
        let keys: Vec<_> = jobs().map(|job| cell(job, "jobKey")).collect();
        Err(Error::NotFound {
            what: format!("plugin {} has no job {key}", self.plugin.full_name()),
            hint: match keys.as_slice() {
                [] => "the plugin declares no jobs".into(),
                keys => format!("its jobs are: {}", keys.join(", ")),
            },
        })
    }

    async fn runs(&mut self, job: &str, key: &str) -> Result<Value, Error> {
        let plugin = &self.plugin;
        let doing = format!("list runs of job {key} of plugin {}", plugin.full_name());
        let path = format!(
            "/api/plugins/{}/jobs/{}/runs",
            segment(&plugin.uid()),
            segment(job)
        );
        self.host.get(&doing, &path).await
    }

    async fn trigger(&mut self, key: &str) -> Result<Value, Error> {
        let job = self.find(key).await?;
        let plugin = &self.plugin;
        let doing = format!("start job {key} of plugin {}", plugin.full_name());
        let path = format!(
            "/api/plugins/{}/jobs/{}/trigger",
            segment(&plugin.uid()),
            segment(&job)
        );
        self.host
            .post(&doing, &path, &Value::Object(serde_json::Map::new()))
            .await
    }

    /// Waits until a run has ended.
    async fn wait(
        &mut self,
        job: &str,
        key: &str,
        run: &str,
        patience: Duration,
    ) -> Result<Value, Error> {
        let start = Instant::now();
        while start.elapsed() < patience {
            let runs = self.runs(job, key).await?;
            let found = runs
                .as_array()
                .into_iter()
                .flatten()
                .find(|row| row["id"] == run);
            if let Some(row) = found.filter(|row| has_ended(row)) {
                return Ok(row.clone());
            }
            sleep(LOOK).await;
        }
        Err(Error::TimedOut {
            doing: format!(
                "wait for run {run} of job {key} of plugin {}",
                self.plugin.full_name()
            ),
            seconds: patience.as_secs(),
        })
    }
}

fn has_ended(run: &Value) -> bool {
    ["succeeded", "failed", "cancelled"]
        .iter()
        .any(|status| run["status"] == *status)
}

fn cell(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn job_table(jobs: &Value) -> String {
    let fields = ["jobKey", "schedule", "status", "lastRunAt", "nextRunAt"];
    let mut table = Table::new(["JOB", "SCHEDULE (UTC)", "STATUS", "LAST RUN", "NEXT RUN"]);
    add_rows(&mut table, jobs, &fields);
    table.render()
}

fn run_table(runs: &Value) -> String {
    let fields = [
        "id",
        "trigger",
        "status",
        "startedAt",
        "durationMs",
        "error",
    ];
    let mut table = Table::new([
        "RUN",
        "TRIGGER",
        "STATUS",
        "STARTED",
        "MILLISECONDS",
        "ERROR",
    ]);
    add_rows(&mut table, runs, &fields);
    table.render()
}

fn add_rows(table: &mut Table, rows: &Value, fields: &[&str]) {
    for row in rows.as_array().into_iter().flatten() {
        table.add_row(fields.iter().map(|field| cell(row, field)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_without_schedule_has_a_dash() {
        let jobs =
            json!([{"jobKey": "brew", "schedule": "", "status": "active", "lastRunAt": null}]);
        let text = job_table(&jobs);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["brew", "-", "active", "-", "-"]);
    }

    #[test]
    fn a_run_has_ended_when_nothing_more_happens_to_it() {
        let ended = |status: &str| has_ended(&json!({"status": status}));
        assert!(["succeeded", "failed", "cancelled"].into_iter().all(ended));
        assert!(!["pending", "queued", "running"].into_iter().any(ended));
    }
}
