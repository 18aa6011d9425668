//! Tables for people: columns padded to their widest cell, as kubectl prints them.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

/// A table of text.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a heading at the end. Rows are added after all headings.
    pub fn add_heading(&mut self, heading: &str) {
        self.rows[0].push(heading.to_owned());
    }

    /// Adds a row. An empty cell prints as `-`, and control characters as spaces, so
    /// that no cell breaks the table or the terminal.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// The table as text, a line a row.
    #[must_use]
    pub fn render(&self) -> String {
        let mut widths = vec![0; self.rows[0].len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn clean(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    cell.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// A number of seconds as kubectl prints ages: `45s`, `12m`, `3h`, `5d`.
#[must_use]
pub fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The age of what came to be then; empty where that is not known.
#[must_use]
pub fn age_since(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(
        String::new,
        |time| age(now.as_second() - time.0.as_second()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "READY"]);
        table.add_row(["commerce".into(), "True".into()]);
        table.add_row(["tea".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NAME       READY\ncommerce   True\ntea        -\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(["MESSAGE"]);
        table.add_row(["a\x1b[31mb\nc".into()]);
        assert_eq!(table.render(), "MESSAGE\na [31mb c\n");
    }

    #[test]
    fn ages_grow_coarser() {
        let ages: Vec<_> = [-5, 45, 119, 120, 7199, 7200, 172_800].map(age).into();
        assert_eq!(ages, ["0s", "45s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
