//! Completion: scripts for shells, and answers to kubectl's own completion.

use std::time::Duration;

use clap::{CommandFactory, ValueHint};
use clap_complete::Shell;

use crate::{
    args::{Cli, CompletionTarget, Global},
    cluster::Cluster,
    error::Error,
    output, plugin,
};

/// kubectl runs a program of this content, named `kubectl_complete-paperclip`.
const KUBECTL_SCRIPT: &str = "#!/bin/sh\nexec kubectl paperclip __complete -- \"$@\"\n";
/// A cluster that does not answer must not hold up the user's shell.
const PATIENCE: Duration = Duration::from_secs(2);
/// kubectl's directive "offer no file names".
const NO_FILES: &str = ":4";
/// kubectl's directive "offer file names where there is no candidate".
const FILES: &str = ":0";

pub(super) fn script(target: CompletionTarget) -> Result<(), Error> {
    let shell = match target {
        CompletionTarget::Bash => Shell::Bash,
        CompletionTarget::Elvish => Shell::Elvish,
        CompletionTarget::Fish => Shell::Fish,
        CompletionTarget::Powershell => Shell::PowerShell,
        CompletionTarget::Zsh => Shell::Zsh,
        CompletionTarget::Kubectl => return output::print(KUBECTL_SCRIPT),
    };
    // The program's own name: a shell completes words that start with it.
    let mut command = Cli::command().bin_name("kubectl-paperclip");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "kubectl-paperclip", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub(super) async fn candidates(global: &Global, words: &[String]) -> Result<(), Error> {
    let (wanted, prefix) = wanted(words);
    let directive = match wanted {
        Candidates::Files => FILES,
        Candidates::Words(_) | Candidates::Plugins => NO_FILES,
    };
    let found = match wanted {
        Candidates::Files => Vec::new(),
        Candidates::Words(words) => words,
        Candidates::Plugins => tokio::time::timeout(PATIENCE, plugin_names(global))
            .await
            .unwrap_or_default(),
    };
    let mut text: String = found
        .into_iter()
        .filter(|candidate| candidate.starts_with(prefix))
        .map(|candidate| candidate + "\n")
        .collect();
    text.push_str(directive);
    text.push('\n');
    output::print(&text)
}

/// Names of plugins; none when the cluster cannot be asked, since nobody reads an
/// error in the middle of a line.
async fn plugin_names(global: &Global) -> Vec<String> {
    let Ok(cluster) = Cluster::connect(global).await else {
        return Vec::new();
    };
    let plugins = plugin::list(&cluster, Some(cluster.namespace())).await;
    plugins
        .unwrap_or_default()
        .iter()
        .map(plugin::Plugin::name)
        .collect()
}

/// What may stand in one place.
#[derive(Debug, PartialEq, Eq)]
enum Candidates {
    Words(Vec<String>),
    Plugins,
    /// Names of files, which the shell knows.
    Files,
}

/// What may stand in place of the last word, and what of it is there already.
fn wanted(words: &[String]) -> (Candidates, &str) {
    let (prefix, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    let mut positions = 0;
    let mut skip = false;
    for word in before {
        if std::mem::take(&mut skip) {
            continue;
        }
        if word.starts_with('-') {
            skip = takes_value(at, word);
        } else if let Some(found) = at.find_subcommand(word) {
            at = found;
            // `job` takes the plugin's name before its own subcommands.
            positions = 0;
        } else {
            positions += 1;
        }
    }
    if skip {
        return (Candidates::Words(Vec::new()), prefix);
    }
    if prefix.starts_with('-') {
        let flags = at
            .get_arguments()
            .filter_map(|argument| argument.get_long());
        return (
            Candidates::Words(flags.map(|flag| format!("--{flag}")).collect()),
            prefix,
        );
    }
    let mut places = at.get_positionals();
    // A list takes all words that are left.
    let is_list = |place: &&clap::Arg| matches!(place.get_action(), clap::ArgAction::Append);
    let place = places.nth(positions);
    if let Some(place) = place.or_else(|| at.get_positionals().last().filter(is_list)) {
        if place.get_value_hint() == ValueHint::AnyPath {
            return (Candidates::Files, prefix);
        }
        if place.get_id() == "plugin" {
            return (Candidates::Plugins, prefix);
        }
        let values = place.get_possible_values();
        let names = values.iter().map(|value| value.get_name().to_owned());
        return (Candidates::Words(names.collect()), prefix);
    }
    let names = at
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned());
    (Candidates::Words(names.collect()), prefix)
}

/// Whether an option takes the next word as its value.
fn takes_value(command: &clap::Command, word: &str) -> bool {
    if word.contains('=') {
        return false;
    }
    command.get_arguments().any(|argument| {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        [long, short].into_iter().flatten().any(|name| name == word)
            && argument.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        match wanted(&line).0 {
            Candidates::Words(words) => words,
            Candidates::Plugins => vec!["<plugin>".into()],
            Candidates::Files => vec!["<file>".into()],
        }
    }

    #[test]
    fn the_first_word_is_a_command() {
        let found = words(&[""]);
        assert!(found.contains(&"list".to_owned()), "{found:?}");
        assert!(!found.contains(&"__complete".to_owned()), "{found:?}");
    }

    #[test]
    fn a_plugin_follows_most_commands() {
        for line in [
            &["get", ""][..],
            &["-n", "shop", "call", "t"],
            &["job", ""],
            &["data", "-o", "json", ""],
        ] {
            assert_eq!(words(line), ["<plugin>"], "{line:?}");
        }
    }

    #[test]
    fn files_follow_lint_as_many_as_there_are() {
        assert!(words(&["li"]).contains(&"lint".to_owned()));
        assert_eq!(words(&["lint", ""]), ["<file>"]);
        assert_eq!(words(&["lint", "-n", "shop", "a.yaml", "b"]), ["<file>"]);
    }

    #[test]
    fn a_job_takes_its_command_after_the_plugin() {
        let found = words(&["job", "tea", ""]);
        assert!(found.contains(&"trigger".to_owned()), "{found:?}");
    }

    #[test]
    fn a_dash_offers_the_options_of_the_command() {
        let found = words(&["logs", "tea", "--"]);
        assert!(found.contains(&"--follow".to_owned()), "{found:?}");
        assert!(found.contains(&"--namespace".to_owned()), "{found:?}");
    }

    #[test]
    fn the_value_of_an_option_is_left_to_the_user() {
        assert!(words(&["call", "tea", "brew", "--params", ""]).is_empty());
    }

    #[test]
    fn shells_are_offered_to_completion() {
        assert!(words(&["completion", "b"]).contains(&"bash".to_owned()));
    }
}
