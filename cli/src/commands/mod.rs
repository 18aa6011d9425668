//! One module a command, or a group of commands that do the same thing.

mod call;
mod complete;
mod doctor;
mod inspect;
mod job;
mod lint;
mod list;
mod logs;
mod pack;
mod relock;
mod request;
mod revisions;
mod show;
mod stored_logs;
mod tree;
mod verify;
mod webhook;
mod why;

use crate::{
    args::{Cli, Command, PluginName},
    cluster::Cluster,
    error::Error,
    host::Host,
    plugin::{self, Plugin},
};

/// Runs a command.
///
/// # Errors
/// When the command could not do what it was asked for.
pub async fn run(cli: Cli) -> Result<(), Error> {
    let Cli { global, command } = cli;
    if global.all_namespaces && !matches!(command, Command::List) {
        return Err(Error::Input {
            what: "-A goes with `list` only; name a plugin as NAMESPACE/NAME".into(),
        });
    }
    match command {
        Command::Completion { shell } => return complete::script(shell),
        Command::Complete { words } => return complete::candidates(&global, &words).await,
        Command::Lint { files } => return lint::run(&global, &files),
        Command::Pack(arguments) => return pack::run(global.output, &arguments).await,
        Command::Inspect(arguments) => return inspect::run(global.output, &arguments).await,
        Command::Verify(arguments) => return verify::run(global.output, &arguments).await,
        Command::SealedNode(_) => {
            return Err(Error::Input {
                what: "this command is for `pack` itself".into(),
            });
        }
        _ => {}
    }
    let cluster = Cluster::connect(&global).await?;
    let session = Session { cluster, global };
    match command {
        Command::List => list::run(&session).await,
        Command::Get { plugin } => show::run(&session, &plugin).await,
        Command::Why { plugin } => why::run(&session, &plugin).await,
        Command::Doctor => doctor::run(&session).await,
        Command::Tree { plugin } => tree::run(&session, &plugin).await,
        Command::Revisions { plugin } => revisions::run(&session, &plugin).await,
        Command::Restart { plugin } => request::restart(&session, &plugin).await,
        Command::Reconcile { plugin } => request::reconcile(&session, &plugin).await,
        Command::Relock { plugin, timeout } => relock::run(&session, &plugin, timeout).await,
        Command::Call {
            plugin,
            tool,
            input,
            undeclared,
        } => call::tool(&session, &plugin, &tool, &input, undeclared).await,
        Command::Data(keyed) => call::data(&session, &keyed).await,
        Command::Action(keyed) => call::action(&session, &keyed).await,
        Command::Webhook {
            plugin,
            endpoint,
            data,
            headers,
        } => webhook::run(&session, &plugin, &endpoint, &data, &headers).await,
        Command::Job { plugin, command } => job::run(&session, &plugin, &command).await,
        Command::Logs {
            plugin,
            follow,
            tail,
            since,
            timestamps,
            stored,
            level,
        } => {
            if stored {
                let wanted = stored_logs::StoredLogOptions { level, since, tail };
                return stored_logs::run(&session, &plugin, &wanted).await;
            }
            let wanted = logs::LogOptions {
                follow,
                tail,
                since,
                timestamps,
            };
            logs::run(&session, &plugin, &wanted).await
        }
        Command::Completion { .. }
        | Command::Complete { .. }
        | Command::Lint { .. }
        | Command::Pack(_)
        | Command::Inspect(_)
        | Command::Verify(_)
        | Command::SealedNode(_) => Ok(()),
    }
}

/// What every command works with.
struct Session {
    cluster: Cluster,
    global: crate::args::Global,
}

impl Session {
    /// Reads a plugin and connects to its host.
    async fn open(&self, name: &PluginName) -> Result<(Plugin, Host), Error> {
        let plugin = plugin::read(&self.cluster, name).await?;
        let host = Host::connect(&self.cluster, &self.global, &plugin).await?;
        Ok((plugin, host))
    }
}
