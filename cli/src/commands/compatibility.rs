//! `compatibility`: the versions of the worker protocol, and the methods of each.

use paperclip_proto::methods::{self, Direction, Supported, Version};
use serde::Serialize;

use crate::{args::Form, error::Error, output, table::Table};

pub(super) fn run(form: Option<Form>, api_version: Option<u32>) -> Result<(), Error> {
    let versions: Vec<&Version> = match api_version {
        Some(number) => vec![methods::offered(number).map_err(|_| unsupported(number))?],
        None => methods::OFFERED.iter().collect(),
    };
    if form == Some(Form::Name) {
        let line = |version: &&Version| format!("{}\n", version.number);
        return output::print(&versions.iter().map(line).collect::<String>());
    }
    let matrix = Matrix::of(&versions);
    output::answer(form, &matrix, || Ok(matrix.table()))
}

fn unsupported(number: u32) -> Error {
    let served: Vec<String> = methods::OFFERED
        .iter()
        .map(|version| version.number.to_string())
        .collect();
    Error::Input {
        what: format!(
            "no sidecar of this release serves apiVersion {number}, wanted {}",
            served.join(" or ")
        ),
    }
}

/// The matrix, as `-o json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Matrix {
    release: &'static str,
    api_versions: Vec<ApiVersion>,
}

#[derive(Serialize)]
struct ApiVersion {
    number: u32,
    since: &'static str,
    methods: Vec<Method>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Method {
    name: &'static str,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'static str>,
    since: &'static str,
}

impl Matrix {
    fn of(versions: &[&Version]) -> Self {
        let api_version = |version: &&Version| ApiVersion {
            number: version.number,
            since: version.since,
            methods: version.methods().map(method).collect(),
        };
        Self {
            release: env!("CARGO_PKG_VERSION"),
            api_versions: versions.iter().map(api_version).collect(),
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new(["APIVERSION", "METHOD", "DIRECTION", "CAPABILITY", "SINCE"]);
        for version in &self.api_versions {
            for method in &version.methods {
                table.add_row([
                    version.number.to_string(),
                    method.name.to_owned(),
                    method.direction.to_owned(),
                    method.capability.unwrap_or_default().to_owned(),
                    method.since.to_owned(),
                ]);
            }
        }
        table.render()
    }
}

fn method(method: Supported) -> Method {
    Method {
        name: method.name,
        direction: direction(method.direction),
        capability: method.capability,
        since: method.since,
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::HostAsks => "host asks",
        Direction::HostTells => "host tells",
        Direction::WorkerAsks => "worker asks",
        Direction::WorkerTells => "worker tells",
    }
}
