//! `logs --stored`: log entries of a plugin that its host keeps, from pods that are gone, too.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::Session;
use crate::{args::PluginName, error::Error, host::segment, output};

/// Entries to show unless told otherwise.
const ENTRIES: u32 = 100;

/// Choice of entries.
pub(super) struct StoredLogOptions {
    pub(super) level: Option<String>,
    pub(super) since: Option<Duration>,
    pub(super) tail: Option<u32>,
}

pub(super) async fn run(
    session: &Session,
    name: &PluginName,
    options: &StoredLogOptions,
) -> Result<(), Error> {
    let (plugin, mut host) = session.open(name).await?;
    let doing = format!("list log entries of plugin {}", plugin.full_name());
    let path = format!(
        "/api/plugins/{}/logs?{}",
        segment(&plugin.uid()),
        query(options)
    );
    let newest_first = host.get(&doing, &path).await?;
    output::answer(session.global.output, &newest_first, || {
        let entries = newest_first.as_array().into_iter().flatten();
        Ok(entries.rev().map(line).collect())
    })
}

fn query(options: &StoredLogOptions) -> String {
    let mut query = format!("limit={}", options.tail.unwrap_or(ENTRIES));
    if let Some(level) = &options.level {
        query += &format!("&level={}", segment(level));
    }
    let begin = options
        .since
        .and_then(|since| SystemTime::now().checked_sub(since));
    if let Some(begin) = begin.and_then(|begin| Timestamp::try_from(begin).ok()) {
        query += &format!("&since={}", segment(&begin.to_string()));
    }
    query
}

/// One entry for people.
fn line(entry: &Value) -> String {
    let text = |field: &str| output::printable(entry[field].as_str().unwrap_or("-"));
    let mut line = format!(
        "{} {} [{}] {}",
        text("createdAt"),
        text("level"),
        text("pod"),
        text("message")
    );
    if !entry["meta"].is_null() {
        line += &format!(" {}", output::printable(&entry["meta"].to_string()));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_one_line_with_its_pod() {
        let entry = json!({"createdAt": "2026-11-21T10:00:01.000Z", "level": "warn", "pod": "tea-1",
            "message": "too hot\nto drink", "meta": {"stream": "stderr"}});
        assert_eq!(
            line(&entry),
            "2026-11-21T10:00:01.000Z warn [tea-1] too hot to drink {\"stream\":\"stderr\"}\n"
        );
        let older =
            json!({"createdAt": "t", "level": "info", "message": "m", "pod": null, "meta": null});
        assert_eq!(line(&older), "t info [-] m\n");
    }

    #[test]
    fn what_is_asked_for_is_in_the_query() {
        let options = StoredLogOptions {
            level: Some("a&b".into()),
            since: None,
            tail: None,
        };
        assert_eq!(query(&options), "limit=100&level=a%26b");
        let options = StoredLogOptions {
            level: None,
            since: Some(Duration::from_secs(60)),
            tail: Some(5),
        };
        assert!(query(&options).starts_with("limit=5&since=20"));
    }
}
