//! The time as it is stored and shown: RFC 3339, UTC, milliseconds.

use chrono::{DateTime, SecondsFormat, Utc};

/// Now, as text.
pub fn now() -> String {
    text(Utc::now())
}

/// A time as text. Texts sort as the times do.
pub fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
