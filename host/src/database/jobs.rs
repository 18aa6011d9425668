//! Tables `plugin_jobs` and `plugin_job_runs`. A run is claimed by inserting it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Database, DatabaseError, Json};
use crate::clock;

/// A row of `plugin_jobs`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRow {
    /// UUID, the same for the same plugin and key on every installation.
    pub id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// Key within the plugin.
    pub job_key: String,
    /// Five-field cron, empty for a job that only runs when triggered.
    pub schedule: String,
    /// `active`, or `paused` when the manifest no longer declares it.
    pub status: String,
    /// When its last run began.
    pub last_run_at: Option<String>,
    /// The next slot of its schedule.
    pub next_run_at: Option<String>,
    /// When the host first saw it.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A row of `plugin_job_runs`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRunRow {
    /// UUID of the run.
    pub id: String,
    /// The job.
    pub job_id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// The company it ran for.
    pub company_id: Option<String>,
    /// `schedule` or `manual`.
    pub trigger: String,
    /// The slot it is for.
    pub scheduled_at: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// Always empty: a worker's logs are in the logs.
    pub logs: Json,
    /// When the worker was asked.
    pub started_at: Option<String>,
    /// When it answered.
    pub finished_at: Option<String>,
    /// When the run was claimed.
    pub created_at: String,
}

/// A job whose slot has come.
#[derive(Clone, Debug, FromRow)]
pub struct DueJob {
    /// The job.
    pub id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// Key within the plugin.
    pub job_key: String,
    /// Five-field cron.
    pub schedule: String,
    /// The slot.
    pub next_run_at: String,
}

/// Why a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its schedule says so.
    Schedule,
    /// Somebody asked.
    Manual,
}

impl Trigger {
    /// As workers and the API see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
        }
    }
}

/// How work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The worker did it.
    Succeeded,
    /// It failed, and why.
    Failed(String),
}

/// The id of a job: of its own plugin and key, so that it never changes.
pub fn job_id(plugin: &str, job_key: &str) -> String {
    let namespace = Uuid::try_parse(plugin).unwrap_or(Uuid::NAMESPACE_URL);
    Uuid::new_v5(&namespace, format!("{plugin}/{job_key}").as_bytes()).to_string()
}

impl Database {
    /// Makes the jobs of a plugin those that its manifest declares; others become paused.
    /// `jobs` holds key, schedule and the next slot.
    pub async fn sync_jobs(
        &self,
        plugin: &str,
        jobs: &[(&str, &str, Option<DateTime<Utc>>)],
    ) -> Result<(), DatabaseError> {
        let failed = DatabaseError::while_doing("record the jobs of a plugin");
        let now = clock::now();
        let mut transaction = self
            .pool
            .begin_with("begin immediate")
            .await
            .map_err(&failed)?;
        sqlx::query("update plugin_jobs set status = 'paused', updated_at = ?1 where plugin_id = ?2 and status <> 'paused'
                 and job_key not in (select value from json_each(?3))")
            .bind(&now)
            .bind(plugin)
            .bind(serde_json::Value::from_iter(jobs.iter().map(|(key, _, _)| *key)).to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        for (key, schedule, next) in jobs {
            sqlx::query(
                "insert into plugin_jobs (id, plugin_id, job_key, schedule, status, next_run_at, created_at, updated_at)
                 values (?1, ?2, ?3, ?4, 'active', ?5, ?6, ?6)
                 on conflict (plugin_id, job_key) do update set
                     next_run_at = case when plugin_jobs.schedule = excluded.schedule and plugin_jobs.status = 'active'
                         then coalesce(plugin_jobs.next_run_at, excluded.next_run_at) else excluded.next_run_at end,
                     schedule = excluded.schedule, status = 'active', updated_at = excluded.updated_at",
            )
            .bind(job_id(plugin, key))
            .bind(plugin)
            .bind(key)
            .bind(schedule)
            .bind(next.map(clock::text))
            .bind(&now)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// The jobs of a plugin, all or of one status.
    pub async fn jobs(
        &self,
        plugin: &str,
        status: Option<&str>,
    ) -> Result<Vec<JobRow>, DatabaseError> {
        sqlx::query_as(
            "select * from plugin_jobs where plugin_id = ?1 and (?2 is null or status = ?2) order by job_key",
        )
        .bind(plugin)
        .bind(status)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("list jobs"))
    }

    /// One job of a plugin, by id or key.
    pub async fn job(
        &self,
        plugin: &str,
        id_or_key: &str,
    ) -> Result<Option<JobRow>, DatabaseError> {
        sqlx::query_as("select * from plugin_jobs where plugin_id = ?1 and (id = ?2 or job_key = ?2) order by id = ?2 desc limit 1")
            .bind(plugin)
            .bind(id_or_key)
            .fetch_optional(&self.pool)
            .await
            .map_err(DatabaseError::while_doing("read a job"))
    }

    /// Runs of a job, newest first.
    pub async fn job_runs(&self, job: &str, limit: u32) -> Result<Vec<JobRunRow>, DatabaseError> {
        sqlx::query_as(
            "select * from plugin_job_runs where job_id = ? order by created_at desc, id limit ?",
        )
        .bind(job)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("list the runs of a job"))
    }

    /// Runs of all jobs of a plugin, newest first.
    pub async fn recent_runs(
        &self,
        plugin: &str,
        limit: u32,
    ) -> Result<Vec<JobRunRow>, DatabaseError> {
        sqlx::query_as("select * from plugin_job_runs where plugin_id = ? order by created_at desc, id limit ?")
            .bind(plugin)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(DatabaseError::while_doing("list the runs of a plugin"))
    }

    /// Jobs whose slot has come, earliest first.
    pub async fn due_jobs(&self, now: DateTime<Utc>) -> Result<Vec<DueJob>, DatabaseError> {
        sqlx::query_as(
            "select id, plugin_id, job_key, schedule, next_run_at from plugin_jobs
             where status = 'active' and next_run_at is not null and next_run_at <= ? order by next_run_at, id",
        )
        .bind(clock::text(now))
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("list due jobs"))
    }

    /// Moves a job to its next slot.
    pub async fn move_job(
        &self,
        job: &str,
        next: Option<DateTime<Utc>>,
    ) -> Result<(), DatabaseError> {
        sqlx::query("update plugin_jobs set next_run_at = ? where id = ?")
            .bind(next.map(clock::text))
            .bind(job)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(DatabaseError::while_doing("move a job to its next slot"))
    }

    /// Claims a run. None when the slot is taken or a run of the job is under way.
    pub async fn claim_run(
        &self,
        plugin: &str,
        job: &str,
        trigger: Trigger,
        scheduled_at: &str,
        company: Option<&str>,
    ) -> Result<Option<String>, DatabaseError> {
        let run = Uuid::new_v4().to_string();
        let inserted = sqlx::query(
            "insert into plugin_job_runs (id, job_id, plugin_id, company_id, trigger, scheduled_at, status, created_at)
             values (?, ?, ?, ?, ?, ?, 'queued', ?) on conflict do nothing",
        )
        .bind(&run)
        .bind(job)
        .bind(plugin)
        .bind(company)
        .bind(trigger.as_str())
        .bind(scheduled_at)
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("claim a job run"))?;
        Ok((inserted.rows_affected() == 1).then_some(run))
    }

    /// Notes that the worker is being asked.
    pub async fn start_run(&self, job: &str, run: &str) -> Result<(), DatabaseError> {
        let failed = DatabaseError::while_doing("start a job run");
        let now = clock::now();
        let mut transaction = self
            .pool
            .begin_with("begin immediate")
            .await
            .map_err(&failed)?;
        sqlx::query("update plugin_job_runs set status = 'running', started_at = ? where id = ?")
            .bind(&now)
            .bind(run)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        sqlx::query("update plugin_jobs set last_run_at = ? where id = ?")
            .bind(&now)
            .bind(job)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// Notes how a run ended.
    pub async fn finish_run(
        &self,
        run: &str,
        outcome: &Outcome,
        duration_ms: i64,
    ) -> Result<(), DatabaseError> {
        let (status, error) = match outcome {
            Outcome::Succeeded => ("succeeded", None),
            Outcome::Failed(error) => ("failed", Some(error)),
        };
        sqlx::query("update plugin_job_runs set status = ?, error = ?, duration_ms = ?, finished_at = ? where id = ?")
            .bind(status)
            .bind(error)
            .bind(duration_ms)
            .bind(clock::now())
            .bind(run)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(DatabaseError::while_doing("finish a job run"))
    }

    /// Ends the work that an earlier process of this host left open. The database has one user at a time.
    pub async fn close_abandoned(&self) -> Result<(), DatabaseError> {
        let failed = DatabaseError::while_doing("close what an earlier process left open");
        let now = clock::now();
        let reason = "the host stopped before the worker answered";
        sqlx::query(
            "update plugin_job_runs set status = 'failed', error = ?, finished_at = ?
                 where status in ('pending', 'queued', 'running')",
        )
        .bind(reason)
        .bind(&now)
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        sqlx::query("update plugin_webhook_deliveries set status = 'failed', error = ?, finished_at = ? where status = 'pending'")
            .bind(reason)
            .bind(&now)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(&failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::PluginUpdate;

    async fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/host.db", folder.path().display());
        let database = Database::open(&url).await.unwrap();
        let plugin = PluginUpdate {
            id: "p",
            namespace: "shop",
            name: "acme",
            plugin_key: "acme.x",
            version: "1.0.0",
            api_version: 1,
            manifest_json: "{}",
            config_json: "{}",
            artifact_digest: "sha256:0",
            activation: 1,
        };
        database.record_plugin(plugin).await.unwrap();
        (folder, database)
    }

    fn slot(text: &str) -> Option<DateTime<Utc>> {
        Some(text.parse().unwrap())
    }

    #[tokio::test]
    async fn a_slot_is_claimed_once_and_a_job_runs_once_at_a_time() {
        let (_folder, database) = database().await;
        database
            .sync_jobs("p", &[("a", "* * * * *", slot("2026-01-01T00:00:00Z"))])
            .await
            .unwrap();
        let job = job_id("p", "a");
        let claim = |trigger, at| database.claim_run("p", &job, trigger, at, None);
        let run = claim(Trigger::Schedule, "t1").await.unwrap().unwrap();
        assert_eq!(claim(Trigger::Schedule, "t2").await.unwrap(), None);
        assert_eq!(claim(Trigger::Manual, "t1").await.unwrap(), None);
        database.start_run(&job, &run).await.unwrap();
        database
            .finish_run(&run, &Outcome::Succeeded, 5)
            .await
            .unwrap();
        assert_eq!(claim(Trigger::Schedule, "t1").await.unwrap(), None);
        assert!(claim(Trigger::Schedule, "t2").await.unwrap().is_some());
        database.close_abandoned().await.unwrap();
        let runs = database.job_runs(&job, 10).await.unwrap();
        let mut statuses: Vec<_> = runs.iter().map(|run| run.status.as_str()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, ["failed", "succeeded"]);
    }

    #[tokio::test]
    async fn a_job_that_is_no_longer_declared_is_paused_and_keeps_its_id() {
        let (_folder, database) = database().await;
        let due = slot("2026-01-01T00:00:00Z");
        database
            .sync_jobs("p", &[("a", "* * * * *", due), ("b", "", None)])
            .await
            .unwrap();
        let before = database.job("p", "a").await.unwrap().unwrap();
        database.sync_jobs("p", &[("b", "", None)]).await.unwrap();
        assert_eq!(
            database.job("p", "a").await.unwrap().unwrap().status,
            "paused"
        );
        assert!(database.due_jobs(Utc::now()).await.unwrap().is_empty());
        database
            .sync_jobs("p", &[("a", "* * * * *", due), ("b", "", None)])
            .await
            .unwrap();
        let after = database.job("p", &before.id).await.unwrap().unwrap();
        assert_eq!((after.id, after.status.as_str()), (before.id, "active"));
        assert_eq!(database.due_jobs(Utc::now()).await.unwrap().len(), 1);
    }
}
