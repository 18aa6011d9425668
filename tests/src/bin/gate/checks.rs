//! The checks that are no tests: formatting, lints, licences, charts, the gRPC contract.

use std::{path::Path, process::Command, time::Duration};

use paperclip_tests::platform::repository;

use crate::part::Part;

/// Longest that a check may take, with what it installs on first use.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// All of them.
pub fn all(programs: &Path) -> Vec<Part> {
    let script = |name: &str| {
        let mut command = Command::new("bash");
        command
            .arg("tests/checks.sh")
            .arg(name)
            .env("PAPERCLIP_PROGRAMS", programs);
        command
    };
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let checks = [
        ("formatting", cargo(&["fmt", "--all", "--check"])),
        ("lints", cargo(&clippy)),
        (
            "licences, bans and sources of dependencies",
            script("dependencies"),
        ),
        ("charts", script("charts")),
        ("gRPC contract", script("contract")),
    ];
    let part = |(name, mut command): (&str, Command)| {
        command.current_dir(repository());
        Part::check(name, command, LIMIT)
    };
    checks.into_iter().map(part).collect()
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binaries of libtest do not hold the examples of documentation, so cargo would have to be
    /// started for them.
    #[test]
    fn no_doc_comment_has_an_example_that_would_not_be_run() {
        let folders = walkdir::WalkDir::new(repository()).into_iter();
        let is_ours = |entry: &walkdir::DirEntry| {
            let name = entry.file_name().to_string_lossy();
            !["target", "node_modules", ".git"].contains(&name.as_ref())
        };
        let mut read = 0;
        for entry in folders.filter_entry(is_ours).filter_map(Result::ok) {
            if entry
                .path()
                .extension()
                .is_none_or(|extension| extension != "rs")
            {
                continue;
            }
            read += 1;
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let comments = text.lines().filter_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("///").or(line.strip_prefix("//!"))
            });
            let fences: Vec<&str> = comments
                .filter_map(|comment| comment.trim().strip_prefix("```"))
                .collect();
            // A fence that opens a block of another language is closed by an empty one.
            let opening = fences.iter().step_by(2);
            assert!(
                opening.clone().all(|language| *language == "text"),
                "{}",
                entry.path().display()
            );
        }
        assert!(read > 100, "{read} files");
    }
}
