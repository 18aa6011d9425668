//! Reads a SQLite file that another process may be writing, as evidence from outside.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use sqlx::{Column, ConnectOptions, Row, sqlite::SqliteConnectOptions};

/// Runs a query read-only and returns each row as an object of column texts. A column
/// that holds no text is null.
///
/// # Errors
/// When the file cannot be opened or the query fails.
pub async fn query(file: &Path, query: &'static str) -> Result<Vec<Value>> {
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .connect()
        .await
        .with_context(|| format!("open {}", file.display()))?;
    let rows = sqlx::query(query).fetch_all(&mut connection).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let columns = row.columns().iter().map(|column| {
                let text = row
                    .try_get::<String, _>(column.ordinal())
                    .map_or(Value::Null, Value::String);
                (column.name().to_owned(), text)
            });
            Value::Object(columns.collect::<Map<_, _>>())
        })
        .collect())
}
