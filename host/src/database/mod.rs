//! The host's database: SQLite with a write-ahead log, on one volume, used by one process.

mod deliveries;
mod entities;
mod events;
mod jobs;
mod logs;
mod plugins;
mod state;

use std::{str::FromStr, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use deliveries::NewDelivery;
pub use entities::{EntityQuery, NewEntity};
pub use events::QueuedEvent;
pub use jobs::{DueJob, JobRow, JobRunRow, Outcome, Trigger};
pub use logs::{LogRow, NewLog};
pub use plugins::{PluginRow, PluginUpdate};
pub use state::StateKey;

/// How long a statement waits for another one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite has one writer; a few more connections let readers pass it.
const CONNECTIONS: u32 = 4;

/// The open database.
#[derive(Clone, Debug)]
pub struct Database {
    pool: SqlitePool,
}

/// What went wrong with the database, and while doing what.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is not one of SQLite.
    #[error("read database URL {url:?}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        source: sqlx::Error,
    },
    /// The file cannot be opened.
    #[error("open database {url}")]
    Open {
        /// The URL.
        url: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables cannot be brought to this version.
    #[error("migrate database {url}")]
    Migrate {
        /// The URL.
        url: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("{action} in the database")]
    Statement {
        /// What we were doing.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
}

impl DatabaseError {
    fn while_doing(action: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Statement { action, source }
    }
}

impl Database {
    /// Opens the database, makes the file where it is missing and brings the tables to this version.
    pub async fn open(url: &str) -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|source| DatabaseError::Url {
                url: url.to_owned(),
                source,
            })?
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What a worker was told is stored must survive the loss of the machine's power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(|source| DatabaseError::Open {
                url: url.to_owned(),
                source,
            })?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| DatabaseError::Migrate {
                url: url.to_owned(),
                source,
            })?;
        Ok(Self { pool })
    }

    /// Whether a statement works.
    pub async fn check(&self) -> Result<(), DatabaseError> {
        sqlx::query("select 1")
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(DatabaseError::while_doing("run a statement"))
    }

    /// Writes what is pending and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A column of JSON text. It shows as the JSON it holds.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct Json(pub String);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}
