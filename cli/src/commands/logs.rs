//! `logs`: workers and sidecars of a plugin's pods, interleaved by time.

use std::{collections::HashSet, time::Duration};

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
    runtime::{WatchStreamExt, watcher},
};
use paperclip_crds::labels;
use paperclip_pod_layout::container;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::Session;
use crate::{
    args::{Form, PluginName},
    error::Error,
    merge::{Line, Merger},
    output, plugin,
};

/// Containers whose logs are shown.
const CONTAINERS: [&str; 2] = [container::WORKER, container::SIDECAR];
/// How long a line waits for an earlier one of another container while following.
const WINDOW: Duration = Duration::from_millis(200);
/// Colours that read well on dark and on light ground.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Choice of lines, and their form.
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) tail: Option<u32>,
    pub(super) since: Option<Duration>,
    pub(super) timestamps: bool,
}

pub(super) async fn run(
    session: &Session,
    name: &PluginName,
    options: &LogOptions,
) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    let pods: Api<Pod> = Api::namespaced(session.cluster.client.clone(), &plugin.namespace());
    let selector = format!("{}={}", labels::PLUGIN, plugin.name());
    let mut printer = Printer {
        form: session.global.output,
        timestamps: options.timestamps,
        coloured: output::is_coloured(),
        sources: Vec::new(),
    };
    if options.follow {
        return follow(&pods, &selector, options, &mut printer).await;
    }
    let found = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(|source| {
            Error::cluster(
                format!("list pods of plugin {}", plugin.full_name()),
                source,
            )
        })?;
    if found.items.is_empty() {
        return Err(Error::NotReady {
            what: format!("plugin {} has no pods", plugin.full_name()),
            hint: format!("`kubectl paperclip get {}` shows why", plugin.full_name()),
        });
    }
    print_past(&pods, &found.items, options, &mut printer).await
}

/// A container whose log can be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    pod: String,
    container: String,
    /// Tells one start of the container from the next.
    restarts: i32,
}

/// The containers of a pod that have started once.
fn sources_of(pod: &Pod) -> Vec<Source> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let has_started = |container: &&ContainerStatus| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    [&status.init_container_statuses, &status.container_statuses]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|container| CONTAINERS.contains(&container.name.as_str()))
        .filter(has_started)
        .map(|container| Source {
            pod: pod.name_any(),
            container: container.name.clone(),
            restarts: container.restart_count,
        })
        .collect()
}

fn log_params(source: &Source, options: &LogOptions) -> LogParams {
    LogParams {
        container: Some(source.container.clone()),
        follow: options.follow,
        tail_lines: options.tail.map(i64::from),
        since_seconds: options
            .since
            .map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1)),
        timestamps: true,
        ..LogParams::default()
    }
}

async fn print_past(
    api: &Api<Pod>,
    pods: &[Pod],
    options: &LogOptions,
    printer: &mut Printer,
) -> Result<(), Error> {
    let mut merger = Merger::default();
    for source in pods.iter().flat_map(sources_of) {
        let text = api
            .logs(&source.pod, &log_params(&source, options))
            .await
            .map_err(|error| {
                let Source { pod, container, .. } = &source;
                Error::cluster(format!("read the log of {pod}/{container}"), error)
            })?;
        let index = printer.add(source);
        for line in text.lines() {
            merger.push(Line::parse(index, line));
        }
    }
    for line in merger.drain() {
        printer.print(&line)?;
    }
    Ok(())
}

/// Prints until the user ends it, also from pods that start later.
async fn follow(
    api: &Api<Pod>,
    selector: &str,
    options: &LogOptions,
    printer: &mut Printer,
) -> Result<(), Error> {
    let config = watcher::Config::default().labels(selector);
    let mut events = std::pin::pin!(
        watcher(api.clone(), config)
            .default_backoff()
            .applied_objects()
    );
    let (sender, mut lines) = mpsc::channel(1024);
    let mut known = HashSet::new();
    let mut merger = Merger::default();
    let mut release = Instant::now();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(pod)) => for source in sources_of(&pod) {
                    if known.insert(source.clone()) {
                        let params = log_params(&source, options);
                        let index = printer.add(source.clone());
                        tokio::spawn(read(api.clone(), source, params, index, sender.clone()));
                    }
                },
                Some(Err(watcher::Error::InitialListFailed(source))) => {
                    return Err(Error::cluster("list the plugin's pods", source));
                }
                // The watch starts again by itself, with back-off.
                Some(Err(error)) => eprintln!("watch the plugin's pods: {error}"),
                None => return Ok(()),
            },
            Some(line) = lines.recv() => {
                if merger.is_empty() {
                    release = Instant::now() + WINDOW;
                }
                merger.push(line);
            }
            () = sleep_until(release), if !merger.is_empty() => {
                for line in merger.drain() {
                    printer.print(&line)?;
                }
            }
        }
    }
}

/// Sends the lines of one container until its log ends.
async fn read(
    api: Api<Pod>,
    source: Source,
    params: LogParams,
    index: usize,
    lines: mpsc::Sender<Line>,
) {
    let Source { pod, container, .. } = &source;
    let stream = match api.log_stream(pod, &params).await {
        Ok(stream) => stream,
        Err(error) => return eprintln!("follow the log of {pod}/{container}: {error}"),
    };
    let mut stream = stream.lines();
    loop {
        match stream.try_next().await {
            Ok(Some(line)) => {
                if lines.send(Line::parse(index, &line)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return eprintln!("follow the log of {pod}/{container}: {error}"),
        }
    }
}

/// Puts lines on standard output.
struct Printer {
    form: Option<Form>,
    timestamps: bool,
    coloured: bool,
    sources: Vec<Source>,
}

impl Printer {
    /// Takes a source and returns its index, which lines name it by.
    fn add(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    fn print(&self, line: &Line) -> Result<(), Error> {
        output::print(&self.render(line))
    }

    fn render(&self, line: &Line) -> String {
        let Source { pod, container, .. } = &self.sources[line.source];
        if self.form == Some(Form::Json) {
            let record = json!({"time": line.time, "pod": pod, "container": container, "message": line.text});
            return format!("{record}\n");
        }
        let mut prefix = format!("[{pod}/{container}]");
        if self.coloured {
            let colour = COLOURS[line.source % COLOURS.len()];
            prefix = format!("\x1b[{colour}m{prefix}\x1b[0m");
        }
        if self.timestamps {
            format!("{prefix} {} {}\n", line.time, line.text)
        } else {
            format!("{prefix} {}\n", line.text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(form: Option<Form>) -> Printer {
        let source = Source {
            pod: "tea-1".into(),
            container: "worker".into(),
            restarts: 0,
        };
        Printer {
            form,
            timestamps: false,
            coloured: false,
            sources: vec![source],
        }
    }

    #[test]
    fn only_started_workers_and_sidecars_are_read() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "tea-1"},
            "status": {
                "initContainerStatuses": [
                    {"name": "fetch", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}}},
                ],
                "containerStatuses": [
                    {"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {}}},
                ],
            },
        }))
        .unwrap();
        let found: Vec<_> = sources_of(&pod)
            .into_iter()
            .map(|source| (source.container, source.restarts))
            .collect();
        assert_eq!(found, [("sidecar".to_owned(), 2)]);
    }

    #[test]
    fn a_line_is_prefixed_with_pod_and_container() {
        let line = Line::parse(0, "2026-11-21T10:00:01Z ready");
        assert_eq!(printer(None).render(&line), "[tea-1/worker] ready\n");
    }

    #[test]
    fn json_lines_carry_the_time() {
        let line = Line::parse(0, "2026-11-21T10:00:01Z ready");
        let text = printer(Some(Form::Json)).render(&line);
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["time"], "2026-11-21T10:00:01Z");
        assert_eq!(record["message"], "ready");
    }
}
