//! What the tests share: the cluster, namespaces, and programs run as a user would.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Output},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
pub use paperclip_tests::eventually;
use paperclip_tests::{Cluster, block_on, built};
use serde_json::{Value, json};

/// Namespace and name of the `PaperclipHost` that `cluster install` made.
pub const HOST_NAMESPACE: &str = "paperclip";
/// Name of the host.
pub const HOST: &str = "main";
/// Namespace of the platform.
pub const PLATFORM_NAMESPACE: &str = "paperclip-system";

/// How long a cold plugin may take: packing, delivery and start on two shared cores.
pub const COLD: Duration = Duration::from_secs(240);
/// How long anything else may take before a test gives up.
pub const WARM: Duration = Duration::from_secs(90);

/// The cluster under test.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let name = std::env::var("PAPERCLIP_TEST_CLUSTER")
            .expect("PAPERCLIP_TEST_CLUSTER names the cluster, see tests/gate.sh");
        Cluster::attach(&name).expect("the named cluster is up")
    })
}

/// Runs kubectl and returns its standard output.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(cluster().kubectl_path());
    command
        .env("KUBECONFIG", cluster().kubeconfig())
        .args(arguments);
    run(&mut command)
}

/// Runs kubectl with something on its standard input.
pub fn kubectl_with_input(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(cluster().kubectl_path());
    command
        .env("KUBECONFIG", cluster().kubeconfig())
        .args(arguments);
    run_with_input(&mut command, input)
}

/// Reads one object, or a list, as JSON. The arguments are those of `kubectl get`.
pub fn get(arguments: &[&str]) -> Result<Value> {
    cluster().get(arguments)
}

/// Runs `kubectl paperclip` in a namespace and returns its standard output.
pub fn paperclip(namespace: &str, arguments: &[&str]) -> Result<String> {
    run(&mut paperclip_command(namespace, arguments)?)
}

/// As [`paperclip`], parsed as JSON.
pub fn paperclip_json(namespace: &str, arguments: &[&str]) -> Result<Value> {
    let text = paperclip(namespace, arguments)?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// `kubectl paperclip`, not yet run, for tests of its failures.
pub fn paperclip_command(namespace: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(built::program("kubectl-paperclip")?);
    command
        .env("KUBECONFIG", cluster().kubeconfig())
        .args(["-n", namespace])
        .args(arguments);
    Ok(command)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    text_of(command, output)
}

fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    use std::{io::Write, process::Stdio};
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("standard input is piped")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    text_of(command, output)
}

fn text_of(command: &Command, output: Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// A namespace with Pod Security `restricted` enforced, removed when dropped. When the
/// test failed it prints what a person would look at first.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace, after removing what an earlier test or run left.
    pub fn create(name: &str) -> Result<Self> {
        if get(&["namespace", name]).is_ok() {
            kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait"])?;
        }
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        kubectl_with_input(&["create", "-f", "-"], &namespace.to_string())?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies YAML in this namespace.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        kubectl_with_input(&["apply", "-n", &self.name, "-f", "-"], yaml)
    }

    /// Waits until the plugin is Ready.
    pub fn wait_ready(&self, plugin: &str, patience: Duration) -> Result<()> {
        eventually("the plugin to be Ready", patience, || {
            let object = get(&["paperclipplugin", plugin, "-n", &self.name])?;
            let ready = condition(&object, "Ready");
            let generation = &object["metadata"]["generation"];
            let is_current = ready["observedGeneration"] == *generation;
            ensure!(ready["status"] == "True" && is_current, "{ready}");
            Ok(())
        })
        .with_context(|| self.evidence())
    }

    /// What a person would look at first.
    fn evidence(&self) -> String {
        let look =
            |arguments: &[&str]| kubectl(arguments).unwrap_or_else(|error| error.to_string());
        let ns = self.name.as_str();
        [
            look(&["get", "pods,paperclipplugins", "-n", ns, "-o", "wide"]),
            look(&["get", "paperclipplugins", "-n", ns, "-o", "yaml"]),
            look(&["get", "events", "-n", ns, "--sort-by=.lastTimestamp"]),
            look(&["get", "pods,jobs", "-n", PLATFORM_NAMESPACE, "-o", "wide"]),
            look(&[
                "logs",
                "-n",
                PLATFORM_NAMESPACE,
                "deployment/paperclip-operator",
                "--tail=40",
            ]),
        ]
        .join("\n")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.evidence());
        }
        // Plugins first, so that their ids are free for the next test: a namespace deletes
        // what is in it only after its pods.
        let plugins = ["delete", "paperclipplugins", "--all", "-n", &self.name];
        let _ = kubectl(&plugins);
        let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// The pods of a plugin that are not being deleted.
pub fn pods_of(namespace: &str, plugin: &str) -> Result<Vec<Value>> {
    let selector = format!("plugins.paperclip.ing/plugin={plugin}");
    let list = get(&["pods", "-n", namespace, "-l", &selector])?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items
        .into_iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .collect())
}

/// The one pod of a plugin.
pub fn pod_of(namespace: &str, plugin: &str) -> Result<Value> {
    let mut pods = pods_of(namespace, plugin)?;
    ensure!(
        pods.len() == 1,
        "{} pods of {namespace}/{plugin}",
        pods.len()
    );
    Ok(pods.remove(0))
}

/// Process ids of a plugin's worker on this machine, found by the UID that only a
/// worker has in its environment. The nodes share this machine's process table.
pub fn worker_processes(namespace: &str, plugin: &str) -> Result<Vec<i32>> {
    let object = get(&["paperclipplugin", plugin, "-n", namespace])?;
    let uid = object["metadata"]["uid"]
        .as_str()
        .context("uid")?
        .to_owned();
    let wanted = format!("PAPERCLIP_PLUGIN_ID={uid}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        // A process may end between the listing and the read.
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|line| line == wanted.as_bytes())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Processes of a program in a pod, found by the pod's control group.
pub fn processes_in_pod(pod: &Value, program: &str) -> Result<Vec<i32>> {
    let uid = pod["metadata"]["uid"].as_str().context("uid")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end between the listing and the reads.
        let read =
            |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("cgroup").contains(uid)
            && read("cmdline")
                .split('\0')
                .next()
                .is_some_and(|path| path.ends_with(program))
        {
            found.push(pid);
        }
    }
    ensure!(
        !found.is_empty(),
        "no {program} runs in pod {}",
        pod["metadata"]["name"]
    );
    Ok(found)
}

/// kill -9 of each.
pub fn kill_all(processes: &[i32]) -> Result<()> {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    for pid in processes {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).with_context(|| format!("kill {pid}"))?;
    }
    Ok(())
}

/// Rows of the host's database, read from the volume beside the running host.
pub fn host_rows(query: &'static str) -> Result<Vec<Value>> {
    let file = host_database()?;
    block_on(paperclip_tests::sqlite::query(&file, query))
}

/// The host's database file: its volume is a folder of this machine.
fn host_database() -> Result<PathBuf> {
    let claims = get(&["persistentvolumeclaims", "-n", HOST_NAMESPACE])?;
    let claims = claims["items"].as_array().context("claims")?;
    let volume = claims
        .iter()
        .find_map(|claim| claim["spec"]["volumeName"].as_str())
        .context("the host has a bound volume")?;
    let volume = get(&["persistentvolume", volume])?;
    let folder = volume["spec"]["hostPath"]["path"]
        .as_str()
        .context("a hostPath volume")?;
    Ok(PathBuf::from(folder).join("host.db"))
}

/// The plugin of `examples/inventory.yaml`: packed and published as its author would,
/// then applied in a namespace of its own and Ready.
pub fn inventory(namespace: &str) -> Result<Namespace> {
    inventory_of_version(namespace, "1.0.0")
}

/// As [`inventory`], released under a version that no other test uses, so that no node
/// has its artifact yet.
pub fn inventory_of_version(namespace: &str, version: &str) -> Result<Namespace> {
    publish_inventory(version)?;
    let namespace = Namespace::create(namespace)?;
    let example = include_str!("../../../examples/inventory.yaml");
    namespace.apply(&example.replace("version: 1.0.0", &format!("version: {version}")))?;
    namespace.wait_ready("inventory", COLD)?;
    Ok(namespace)
}

/// Publishes a version of the example once; a published version never changes.
fn publish_inventory(version: &str) -> Result<()> {
    let files = [
        "package.json",
        "README.md",
        "dist/manifest.js",
        "dist/stock.js",
        "dist/worker.js",
    ];
    let replacements = [("\"1.0.0\"", format!("\"{version}\""))];
    publish("examples/plugins/inventory", version, &files, &replacements)
}

/// Publishes a version of a package of this repository once, with texts replaced in its
/// files; a published version never changes.
pub fn publish(
    folder: &str,
    version: &str,
    files: &[&str],
    replacements: &[(&str, String)],
) -> Result<()> {
    static PUBLISHED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut published = PUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
    let release_name = format!("{folder}@{version}");
    if published.contains(&release_name) {
        return Ok(());
    }
    let source = paperclip_tests::platform::repository().join(folder);
    let release = tempfile::tempdir()?;
    for file in files {
        let mut text =
            std::fs::read_to_string(source.join(file)).with_context(|| format!("read {file}"))?;
        for (from, to) in replacements {
            text = text.replace(from, to);
        }
        let target = release.path().join(file);
        std::fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        std::fs::write(target, text)?;
    }
    cluster().npm().publish_files(release.path(), files)?;
    published.insert(release_name);
    Ok(())
}

/// Upgrades the platform's release by these options of Helm.
pub fn upgrade_platform(values: &[&str]) -> Result<()> {
    let chart = paperclip_tests::platform::repository()
        .join("charts/paperclip-platform")
        .display()
        .to_string();
    let mut arguments = vec![
        "upgrade",
        "paperclip",
        &chart,
        "-n",
        PLATFORM_NAMESPACE,
        "--reuse-values",
        "--wait",
        "--timeout=120s",
    ];
    arguments.extend(values);
    cluster().helm(&arguments).map(drop)
}

/// A condition of an object, or null.
pub fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|found| found["type"] == type_);
    found.unwrap_or(&Value::Null)
}

/// Publishes a version of the plugin that shows its settings.
pub fn publish_settings(version: &str) -> Result<()> {
    let files = ["package.json", "manifest.js", "worker.js"];
    let number = [("\"1.0.0\"", format!("\"{version}\""))];
    publish("tests/plugins/settings", version, &files, &number)
}
