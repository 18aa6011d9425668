//! `programs`: builds the Go programs of the test cluster that are not there yet.

use anyhow::Result;

fn main() -> Result<()> {
    paperclip_test_programs::all()
        .iter()
        .try_for_each(|program| program.build().map(drop))
}
