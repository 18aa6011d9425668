//! Schedules of plugin jobs: five-field cron as Paperclip reads it.
//!
//! Times are UTC, and day of month **and** weekday must both match, unlike in
//! classic cron. Each field is a comma list of `*`, `*/s`, `n`, `n-m`, `n/s`
//! (from n to the end) and `n-m/s`, digits only; weekdays are 0 (Sunday) to 6.

use std::{ops::RangeInclusive, str::FromStr};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};

/// Years that are searched for the next run. 29 February meets a given weekday
/// at the latest after 40 years, when a century year is not a leap year.
const HORIZON_DAYS: u64 = 41 * 366;

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// Numbers below 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set(u64);

/// A text that is no schedule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseScheduleError {
    /// Not five fields.
    #[error("schedule {schedule:?} has {found} fields, wanted 5: minute hour day month weekday")]
    Fields {
        /// The text.
        schedule: String,
        /// How many fields it has.
        found: usize,
    },
    /// A field that says nothing valid.
    #[error(
        "{name} field {field:?} of a schedule, wanted a list of *, n, n-m, with /step, from {first} to {last}"
    )]
    Field {
        /// Which field.
        name: &'static str,
        /// Its text.
        field: String,
        /// Smallest value.
        first: u32,
        /// Largest value.
        last: u32,
    },
}

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ParseScheduleError::Fields {
                schedule: text.to_owned(),
                found: fields.len(),
            });
        };
        Ok(Self {
            minutes: Set::parse("minute", minutes, 0..=59)?,
            hours: Set::parse("hour", hours, 0..=23)?,
            days: Set::parse("day", days, 1..=31)?,
            months: Set::parse("month", months, 1..=12)?,
            weekdays: Set::parse("weekday", weekdays, 0..=6)?,
        })
    }
}

impl Set {
    fn parse(
        name: &'static str,
        field: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Self, ParseScheduleError> {
        field
            .split(',')
            .try_fold(Self(0), |set, item| {
                Self::parse_item(item, &range).map(|more| Self(set.0 | more.0))
            })
            .ok_or_else(|| ParseScheduleError::Field {
                name,
                field: field.to_owned(),
                first: *range.start(),
                last: *range.end(),
            })
    }

    fn parse_item(item: &str, range: &RangeInclusive<u32>) -> Option<Self> {
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(number(step)?)),
            None => (item, None),
        };
        let (first, last) = match values.split_once('-') {
            _ if values == "*" => (*range.start(), *range.end()),
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let first = number(values)?;
                (first, if step.is_some() { *range.end() } else { first })
            }
        };
        let step = step.unwrap_or(1);
        if step == 0 || first > last || !range.contains(&first) || !range.contains(&last) {
            return None;
        }
        let bits = (first..=last).step_by(usize::try_from(step).ok()?);
        Some(Self(bits.fold(0, |set, value| set | 1 << value)))
    }

    fn has(self, value: u32) -> bool {
        self.0 & (1 << value) != 0
    }

    fn values_from(self, first: u32) -> impl Iterator<Item = u32> {
        (first..64).filter(move |value| self.has(*value))
    }
}

/// Digits only: `u32::from_str` would take a plus sign.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl Schedule {
    /// The first slot after a time, or none for a date that never comes.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let earliest = time.with_second(0)?.with_nanosecond(0)? + TimeDelta::minutes(1);
        let today = earliest.date_naive();
        if self.has_day(today)
            && let Some(slot) = self.slot_from(earliest.time())
        {
            return Some(today.and_time(slot).and_utc());
        }
        let slot = self.slot_from(NaiveTime::MIN)?;
        (1..HORIZON_DAYS)
            .map_while(|offset| today.checked_add_days(Days::new(offset)))
            .find(|day| self.has_day(*day))
            .map(|day| day.and_time(slot).and_utc())
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        self.months.has(day.month())
            && self.days.has(day.day())
            && self.weekdays.has(day.weekday().num_days_from_sunday())
    }

    fn slot_from(&self, earliest: NaiveTime) -> Option<NaiveTime> {
        let hour = self.hours.values_from(earliest.hour()).next()?;
        let minute_now = if hour == earliest.hour() {
            earliest.minute()
        } else {
            0
        };
        if let Some(minute) = self.minutes.values_from(minute_now).next() {
            return NaiveTime::from_hms_opt(hour, minute, 0);
        }
        let hour = self.hours.values_from(hour + 1).next()?;
        let minute = self.minutes.values_from(0).next()?;
        NaiveTime::from_hms_opt(hour, minute, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> Option<String> {
        let schedule: Schedule = schedule.parse().unwrap();
        let after: DateTime<Utc> = after.parse().unwrap();
        schedule.next_after(after).map(crate::clock::text)
    }

    #[test]
    fn the_next_slot_is_later_than_the_time_itself() {
        let cases = [
            (
                "* * * * *",
                "2026-09-20T10:00:00Z",
                "2026-09-20T10:01:00.000Z",
            ),
            (
                "*/15 * * * *",
                "2026-09-20T10:59:59Z",
                "2026-09-20T11:00:00.000Z",
            ),
            (
                "30 2 * * *",
                "2026-09-20T02:30:00Z",
                "2026-09-21T02:30:00.000Z",
            ),
            (
                "50/5 23 31 12 *",
                "2026-12-31T23:55:01Z",
                "2027-12-31T23:50:00.000Z",
            ),
            (
                "1,7-9 4 * * *",
                "2026-09-20T04:07:00Z",
                "2026-09-20T04:08:00.000Z",
            ),
            (
                "59 9,17 * * *",
                "2026-09-20T09:59:00Z",
                "2026-09-20T17:59:00.000Z",
            ),
        ];
        for (schedule, after, expected) in cases {
            assert_eq!(
                next(schedule, after).as_deref(),
                Some(expected),
                "{schedule}"
            );
        }
    }

    #[test]
    fn day_of_month_and_weekday_must_both_match() {
        assert_eq!(
            next("0 0 13 * 5", "2026-09-20T00:00:00Z").as_deref(),
            Some("2026-11-13T00:00:00.000Z")
        );
    }

    #[test]
    fn a_rare_leap_day_is_found_and_an_impossible_date_is_not() {
        assert_eq!(
            next("0 0 29 2 1", "2072-03-01T00:00:00Z").as_deref(),
            Some("2112-02-29T00:00:00.000Z")
        );
        assert_eq!(next("0 0 30 2 *", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn what_paperclip_does_not_schedule_is_refused() {
        for schedule in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "* * * JAN *",
            "5-1 * * * *",
            "*/0 * * * *",
            "+1 * * * *",
            "1, * * * *",
            "*-3 * * * *",
        ] {
            assert!(schedule.parse::<Schedule>().is_err(), "{schedule:?}");
        }
    }
}
