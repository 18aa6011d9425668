//! A healthy plugin beside the bad ones: it must not notice any of them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    case::plugin,
    release::{Release, VERSION},
};
use crate::{
    load::Load,
    support::{COLD, Namespace, get, pod_of},
};

/// Its name, the end of its package's name and of its id.
pub const NAME: &str = "neighbour";
/// One call every 50 ms.
const RATE: u32 = 20;

/// The plugin, under calls.
pub struct Neighbour {
    namespace: String,
    before: Look,
    load: Load,
}

/// What must not change.
#[derive(Debug, PartialEq)]
struct Look {
    pod: Value,
    restarts: Vec<i64>,
    generation: Value,
}

impl Neighbour {
    /// Applies it.
    pub fn apply(namespace: &Namespace) -> Result<()> {
        let package = Release::package(NAME);
        let object = plugin(NAME, &package, VERSION, &Value::Null);
        namespace.apply(&object.to_string()).map(drop)
    }

    /// Waits until it is Ready and begins to call it.
    pub fn watch(namespace: &Namespace) -> Result<Self> {
        namespace.wait_ready(NAME, COLD)?;
        Ok(Self {
            namespace: namespace.name().to_owned(),
            before: Look::at(namespace.name())?,
            load: Load::start(&format!("test.{NAME}"), NAME, RATE)?,
        })
    }

    /// Nothing of it changed, and each call ended well.
    pub fn check_untouched(self) -> Result<()> {
        let now = Look::at(&self.namespace)?;
        let report = self.load.stop()?;
        report.print("a neighbour of bad input");
        ensure!(now == self.before, "{:?} became {now:?}", self.before);
        report.check_unbroken()
    }
}

impl Look {
    fn at(namespace: &str) -> Result<Self> {
        let pod = pod_of(namespace, NAME)?;
        let restarts = ["initContainerStatuses", "containerStatuses"]
            .iter()
            .filter_map(|kind| pod["status"][kind].as_array())
            .flatten()
            .map(|status| status["restartCount"].as_i64().context("a restart count"))
            .collect::<Result<_>>()?;
        let deployment = get(&["deployment", &format!("pcp-{NAME}"), "-n", namespace])?;
        Ok(Self {
            pod: pod["metadata"]["uid"].clone(),
            restarts,
            generation: deployment["metadata"]["generation"].clone(),
        })
    }
}
