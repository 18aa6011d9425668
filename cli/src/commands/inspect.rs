//! `inspect`: what an artifact is, without pulling its tree.

use std::fmt::Write as _;

use bytes::Bytes;
use paperclip_artifact::{
    attachment::Kind,
    inspect::{self, Inspection, Opened},
};

use crate::{
    args::{Form, InspectArguments},
    error::Error,
    location, output,
    table::Table,
};

pub(super) async fn run(form: Option<Form>, arguments: &InspectArguments) -> Result<(), Error> {
    let location = &arguments.location.location;
    let (source, digest) = location::open(&arguments.location).await?;
    let failed = |e| Error::artifact(format!("inspect {location}"), e);
    let opened = Opened::open(&source, &digest).await.map_err(failed)?;
    if let Some(kind) = arguments.attached() {
        let content = opened.attached(kind).await.map_err(failed)?;
        return print(content);
    }
    if arguments.manifest {
        let facts = opened.facts().await.map_err(failed)?;
        return output::print(&output::json(&facts.plugin_manifest)?);
    }
    if form == Some(Form::Name) {
        return output::print(&format!("{digest}\n"));
    }
    let told = inspect::inspect(&opened).await.map_err(failed)?;
    output::answer(form, &told, || Ok(describe(&told)))
}

/// Prints a document as it is stored, byte for byte.
fn print(content: Bytes) -> Result<(), Error> {
    let text = String::from_utf8(content.into()).map_err(|source| Error::Encoding {
        doing: "read the document as text".into(),
        source: Box::new(source),
    })?;
    output::print(&text)
}

impl InspectArguments {
    fn attached(&self) -> Option<Kind> {
        let asked = [
            (self.sbom, Kind::Sbom),
            (self.provenance, Kind::Provenance),
            (self.lock, Kind::Lock),
        ];
        asked
            .into_iter()
            .find_map(|(is_asked, kind)| is_asked.then_some(kind))
    }
}

fn describe(told: &Inspection) -> String {
    let Inspection {
        digest,
        size_bytes,
        platforms,
        annotations,
        images,
        plugin,
        referrers,
    } = told;
    let layers: usize = images.iter().map(|image| image.layers.len()).sum();
    let jobs = plugin.jobs.iter().map(|job| match &job.schedule {
        Some(schedule) => format!("{} ({schedule} UTC)", job.key),
        None => job.key.clone(),
    });
    let facts = [
        ("Digest", digest.to_string()),
        ("Size", format!("{size_bytes} bytes in {layers} layers")),
        ("Platforms", platforms.join(", ")),
        (
            "Manifest",
            format!("{} {} ({})", plugin.id, plugin.version, plugin.display_name),
        ),
        ("Capabilities", plugin.capabilities.join(", ")),
        ("Tools", plugin.tools.join(", ")),
        ("Jobs", jobs.collect::<Vec<_>>().join(", ")),
        ("Webhooks", plugin.webhooks.join(", ")),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        let value = output::printable(if value.is_empty() { "-" } else { &value });
        let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
    }
    let mut table = Table::new(["ANNOTATION", "VALUE"]);
    for (name, value) in annotations {
        table.add_row([name.clone(), value.clone()]);
    }
    let _ = write!(text, "\n{}", table.render());
    let mut table = Table::new(["IMAGE", "DIGEST"]);
    for image in images {
        table.add_row([image.platform.clone(), image.digest.to_string()]);
    }
    if images.len() > 1 {
        let _ = write!(text, "\n{}", table.render());
    }
    let mut table = Table::new(["REFERRER", "DIGEST"]);
    for referrer in referrers {
        let digest = referrer.descriptor.digest.to_string();
        table.add_row([referrer.artifact_type.clone(), digest]);
    }
    if !referrers.is_empty() {
        let _ = write!(text, "\n{}", table.render());
    }
    text
}
