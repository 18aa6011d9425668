//! `why`: the root cause, what follows from it, and what to do next.
//!
//! [`observed`] reads, [`explain`] decides what to say: it knows no cluster and no clock.

mod events;
mod explain;
mod observed;
mod packing;
mod pods;
mod references;
#[cfg(test)]
mod tests;

use super::Session;
use crate::{args::PluginName, error::Error, output, plugin};

pub(super) async fn run(session: &Session, name: &PluginName) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    let observed = observed::read(session, &plugin).await;
    let explanation = explain::explain(&observed);
    output::answer(session.global.output, &explanation, || {
        Ok(explanation.text())
    })?;
    if explanation.ready {
        return Ok(());
    }
    Err(Error::NotReady {
        what: format!("PaperclipPlugin {} is not Ready", plugin.full_name()),
        hint: String::new(),
    })
}
