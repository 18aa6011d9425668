//! The page `docs/conditions.md`, made from the enums, so that it lists what the code can say.

use std::fmt::Write as _;

use crate::v1alpha1::{ConditionType, Reason};

const HEAD: &str = "\
# Conditions and reasons

What the status of a PaperclipPlugin, and of a PaperclipHost as far as it applies, may say. The words are API: they are never renamed.
This page is made from the code; `PAPERCLIP_UPDATE_GOLDEN=1 cargo test -p paperclip-crds` writes it anew.

`kubectl paperclip why PLUGIN` says which of them holds now, with the words of what failed.

## Conditions

| type | True says | other statuses |
|---|---|---|
";

const REASONS: &str = "
## Reasons

Every reason of a condition and of an event. A message begins with the cause in the words of what failed.

| reason | meaning | what to do |
|---|---|---|
";

/// Where a reason has no advice of its own.
const WAIT: &str = "Nothing, or what the message says.";

/// The page as Markdown.
#[must_use]
pub fn conditions() -> String {
    let mut page = HEAD.to_owned();
    for condition in ConditionType::ALL {
        row(
            &mut page,
            condition.name(),
            [condition.meaning(), condition.statuses()],
        );
    }
    page.push_str(REASONS);
    for reason in Reason::ALL {
        row(
            &mut page,
            reason.name(),
            [reason.meaning(), reason.advice().unwrap_or(WAIT)],
        );
    }
    page
}

/// One row of a table of three columns.
fn row(page: &mut String, word: &str, cells: [&str; 2]) {
    let [meaning, then] = cells.map(|cell| cell.replace('|', "\\|"));
    // Writing to a String does not fail.
    let _ = writeln!(page, "| `{word}` | {meaning} | {then} |");
}
