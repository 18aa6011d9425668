//! Interleaving the lines of several logs by time.
//!
//! Each log is in order by itself, but lines of different containers arrive in any
//! order. Lines wait in the [`Merger`] until no earlier one is expected.

use std::collections::BinaryHeap;

/// One line of a log. The order of two lines is that of their times, then of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Time as the kubelet wrote it, RFC 3339 with nanoseconds. Empty when it wrote none.
    pub time: String,
    /// Index of the log it is from.
    pub source: usize,
    /// The text.
    pub text: String,
}

impl Line {
    /// Takes the kubelet's time off the front of a line.
    #[must_use]
    pub fn parse(source: usize, line: &str) -> Self {
        let (time, text) = match line.split_once(' ') {
            Some((time, text)) if is_time(time) => (time, text),
            _ if is_time(line) => (line, ""),
            _ => ("", line),
        };
        Self {
            time: time.to_owned(),
            source,
            text: text.to_owned(),
        }
    }
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T'
}

/// A sort key for RFC 3339 in UTC: the kubelet drops trailing zeros of the fraction,
/// so the text itself does not sort.
fn sort_key(time: &str) -> String {
    let digits = time.trim_end_matches('Z');
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    format!("{seconds}.{fraction:0<9}")
}

#[derive(PartialEq, Eq)]
struct Waiting {
    key: String,
    arrival: u64,
    line: Line,
}

impl Ord for Waiting {
    /// Reversed, so that the heap's top is the earliest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&other.key, other.arrival).cmp(&(&self.key, self.arrival))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Lines that wait for earlier ones.
#[derive(Default)]
pub struct Merger {
    waiting: BinaryHeap<Waiting>,
    arrivals: u64,
    /// Key of the last line of each source, for lines without a time.
    last: Vec<String>,
}

impl Merger {
    /// Takes a line. A line without a time stays behind the line before it.
    pub fn push(&mut self, line: Line) {
        if self.last.len() <= line.source {
            self.last.resize(line.source + 1, String::new());
        }
        let key = if line.time.is_empty() {
            self.last[line.source].clone()
        } else {
            sort_key(&line.time)
        };
        self.last[line.source].clone_from(&key);
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.waiting.push(Waiting { key, arrival, line });
    }

    /// Gives out all lines that wait, in order.
    pub fn drain(&mut self) -> Vec<Line> {
        std::iter::from_fn(|| self.waiting.pop())
            .map(|waiting| waiting.line)
            .collect()
    }

    /// Whether no line waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(lines: &[(usize, &str)]) -> Vec<String> {
        let mut merger = Merger::default();
        for (source, line) in lines {
            merger.push(Line::parse(*source, line));
        }
        merger.drain().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_of_two_logs_are_in_order_of_time() {
        let lines = [
            (0, "2026-11-21T10:00:01.000000001Z a"),
            (0, "2026-11-21T10:00:03Z c"),
            (1, "2026-11-21T10:00:02.5Z b"),
            (1, "2026-11-21T10:00:04Z d"),
        ];
        assert_eq!(merged(&lines), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_fraction_without_trailing_zeros_sorts_by_value() {
        let lines = [
            (0, "2026-11-21T10:00:01.5Z later"),
            (1, "2026-11-21T10:00:01.499999999Z earlier"),
            (1, "2026-11-21T10:00:01Z first"),
        ];
        assert_eq!(merged(&lines), ["first", "earlier", "later"]);
    }

    #[test]
    fn lines_of_one_time_keep_their_order_of_arrival() {
        let lines = [
            (0, "2026-11-21T10:00:01Z a"),
            (1, "2026-11-21T10:00:01Z b"),
            (0, "2026-11-21T10:00:01Z c"),
        ];
        assert_eq!(merged(&lines), ["a", "b", "c"]);
    }

    #[test]
    fn a_line_without_time_follows_the_line_before_it() {
        let lines = [
            (0, "2026-11-21T10:00:01Z a"),
            (0, "rotated away"),
            (1, "2026-11-21T10:00:02Z b"),
        ];
        assert_eq!(merged(&lines), ["a", "rotated away", "b"]);
    }

    #[test]
    fn text_keeps_its_spaces() {
        let line = Line::parse(0, "2026-11-21T10:00:01Z   two  spaces ");
        assert_eq!(line.text, "  two  spaces ");
        assert_eq!(Line::parse(0, "2026-11-21T10:00:01Z").text, "");
    }
}
