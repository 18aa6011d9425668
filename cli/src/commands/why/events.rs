//! The newest warnings of the cluster, each told once.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};

use super::explain::is_said;
use crate::table::age;

/// More help nobody.
const MOST: usize = 5;

/// The newest warnings, newest first, without those that `said` holds already. What two pods of
/// a plugin both hear is one warning.
pub(super) fn newest(events: &[Event], now: Timestamp, said: &[String]) -> Vec<String> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| std::cmp::Reverse(time(event)));
    let mut told = BTreeSet::new();
    events
        .into_iter()
        .filter(|event| {
            let message = event.message.as_deref().unwrap_or_default();
            let words = message.trim_start_matches("Error creating: ");
            let is_news = !said.iter().any(|said| is_said(words, said));
            is_news && told.insert((event.involved_object.kind.clone(), &event.reason, message))
        })
        .take(MOST)
        .map(|event| line(event, now))
        .collect()
}

/// When it was heard last.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let series = series.and_then(|series| series.last_observed_time.as_ref());
    let series = series.map(|time| time.0);
    series
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
}

fn line(event: &Event, now: Timestamp) -> String {
    let when = time(event).map_or_else(String::new, |time| {
        format!("{} ago, ", age(now.as_second() - time.as_second()))
    });
    let about = &event.involved_object;
    let series = event.series.as_ref().and_then(|series| series.count);
    let times = match series.or(event.count).unwrap_or(1) {
        0 | 1 => String::new(),
        count => format!(", {count} times"),
    };
    let message = event.message.as_deref().unwrap_or_default();
    format!(
        "{when}{} {}: {}{times}: {}",
        about.kind.as_deref().unwrap_or_default(),
        about.name.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        message.trim().replace(char::is_control, " ")
    )
}
