//! The help texts, compared with the copies in `snapshots/`.

use clap::CommandFactory;
use kubectl_paperclip::args::Cli;

/// The help of the program and of each command that is shown.
fn help() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    append(&mut command, &mut text, true);
    text
}

/// The program's own help is long (`--help`), that of its commands short (`-h`).
fn append(command: &mut clap::Command, text: &mut String, is_long: bool) {
    let mut shown = command.clone().term_width(100);
    let rendered = if is_long {
        shown.render_long_help()
    } else {
        shown.render_help()
    };
    text.push_str(&format!(
        "## {}\n\n{rendered}\n",
        command.get_bin_name().unwrap_or_default()
    ));
    for inner in command.get_subcommands_mut() {
        if !inner.is_hide_set() && inner.get_name() != "help" {
            append(inner, text, false);
        }
    }
}

#[test]
fn help_is_as_committed() {
    insta::assert_snapshot!("help", help());
}

#[test]
fn every_command_that_is_shown_has_examples() {
    let mut command = Cli::command();
    command.build();
    for inner in command.get_subcommands() {
        if inner.is_hide_set() || inner.get_name() == "help" {
            continue;
        }
        let after = inner.get_after_help().map(ToString::to_string);
        assert!(
            after.is_some_and(|text| text.contains("Examples:")),
            "{} has no examples",
            inner.get_name()
        );
    }
}
