//! The command line, parsed into types.

use std::{convert::Infallible, ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use paperclip_artifact_format::platform::Platform;
use paperclip_packer::sandbox::{evaluate::SEAL_COMMAND, seal::Seal};
use paperclip_protocol::DEFAULT_COMPANY;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the call failed
  2  the command line or an input is wrong
  3  not found
  4  not ready, or not reachable";

/// Look at Paperclip plugins and call them.
///
/// Answers go to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-paperclip",
    bin_name = "kubectl paperclip",
    version,
    propagate_version = true,
    after_help = EXIT_CODES,
    after_long_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Context of the kubeconfig to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig file. Default: KUBECONFIG, then ~/.kube/config, then the pod's own account
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the plugin. Default: the namespace of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces, with `list`
    #[arg(short = 'A', long, global = true)]
    pub all_namespaces: bool,
    /// Form of the output. Default: for people
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    pub output: Option<Form>,
    /// Bearer token for the host. Default: a token of the host's client account, valid for 10 minutes
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "PAPERCLIP_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// Send the host the bearer token of the kubeconfig, so that it checks your own rights. Use it
    /// only with a host you trust with that token
    #[arg(long, global = true, conflicts_with = "token")]
    pub own_token: bool,
    /// Longest time to wait for one answer, as in 30s or 5m
    #[arg(long, global = true, value_name = "DURATION", default_value = "330s", value_parser = parse_duration)]
    pub request_timeout: Duration,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// JSON: the object, or the host's answer unchanged
    Json,
    /// The same as YAML
    Yaml,
    /// The table with more columns
    Wide,
    /// Names only, as kubectl takes them
    Name,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List plugins
    #[command(after_help = "\
Examples:
  kubectl paperclip list
  kubectl paperclip list -A -o wide
  kubectl paperclip list -o name")]
    List,
    /// Show a plugin: what it is, what it declares, and how it is
    #[command(after_help = "\
Examples:
  kubectl paperclip get inventory
  kubectl paperclip get shop/inventory -o json")]
    Get {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Say why a plugin is not Ready: the root cause, what follows from it, and what to do next
    #[command(after_help = "\
Ends with 0 when the plugin is Ready, and with 4 when it is not.

Examples:
  kubectl paperclip why inventory
  kubectl paperclip why shop/inventory -o json")]
    Why {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Check resources without a cluster, in the words the cluster would use
    #[command(after_help = "\
Checks PaperclipPlugin and PaperclipHost: unknown fields, the schema, the rules of the kinds, and
what the operator decides from the resource alone. Other kinds are passed over. Of a folder, the
files .yaml, .yml and .json in it and below. Ends with 1 when something is wrong.

Examples:
  kubectl paperclip lint plugin.yaml
  kubectl paperclip lint deploy/ -n shop
  helm template . | kubectl paperclip lint - -o json")]
    Lint {
        /// Files, folders, or - for standard input
        #[arg(required = true, value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
        files: Vec<PathBuf>,
    },
    /// Show what a plugin consists of in the cluster, as a tree
    #[command(after_help = "\
Examples:
  kubectl paperclip tree inventory
  kubectl paperclip tree shop/inventory -o json")]
    Tree {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Check the platform: its kinds, operator, store, hosts, certificates, plugins and your rights
    #[command(after_help = "\
Ends with 0 when nothing is wrong, and with 4 when something is.

Examples:
  kubectl paperclip doctor
  kubectl paperclip doctor -n shop -o json")]
    Doctor,
    /// List the revisions of a plugin
    #[command(after_help = "\
Examples:
  kubectl paperclip revisions inventory
  kubectl paperclip revisions inventory -o wide")]
    Revisions {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Ask for new pods of a plugin, with the sidecar of the operator's release
    #[command(after_help = "\
The old pods serve until the new ones do.

Examples:
  kubectl paperclip restart inventory")]
    Restart {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Request a reconcile of a plugin at once
    #[command(after_help = "\
Also at a package that failed, and at Secrets and ConfigMaps, which it reads every 30 seconds.

Examples:
  kubectl paperclip reconcile inventory")]
    Reconcile {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
    },
    /// Resolve a plugin's dependencies anew, and show what moves
    #[command(after_help = "\
The plugin keeps its version; what it depends on is resolved again, packed, and rolled out
as a new revision. Other plugins of the same package do not move. The annotation
plugins.paperclip.ing/relock-requested-at does the same in Git.

Examples:
  kubectl paperclip relock inventory
  kubectl paperclip relock shop/inventory -o json")]
    Relock {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
        /// How long to wait for the new artifact
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        timeout: u64,
    },
    /// Call a tool of a plugin
    #[command(after_help = "\
Examples:
  kubectl paperclip call inventory add_stock --params '{\"sku\":\"tea\",\"quantity\":3}'
  kubectl paperclip call inventory add_stock --params @order.json
  kubectl paperclip call commerce bcp_list_deals --undeclared -o json")]
    Call {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
        /// Name of the tool, with or without the plugin's prefix
        tool: String,
        /// Parameters and company.
        #[command(flatten)]
        input: Input,
        /// Also call a tool that the plugin's manifest does not declare
        #[arg(long)]
        undeclared: bool,
    },
    /// Read data that a plugin offers under a key
    #[command(after_help = "\
Examples:
  kubectl paperclip data inventory counters
  kubectl paperclip data inventory stock --params '{\"sku\":\"tea\"}'")]
    Data(Keyed),
    /// Perform an action of a plugin
    #[command(after_help = "\
Examples:
  kubectl paperclip action inventory restock --params '{\"sku\":\"tea\",\"quantity\":10}'")]
    Action(Keyed),
    /// Post to a webhook of a plugin, as an outside system would
    #[command(after_help = "\
The data is sent byte for byte. Its content type is application/json when it is JSON, else
text/plain, unless a header says otherwise.

Examples:
  kubectl paperclip webhook inventory delivery --data '{\"sku\":\"tea\",\"quantity\":4}'
  kubectl paperclip webhook inventory delivery --data @body.bin --header content-type:text/csv
  curl -s https://example.com/message.json | kubectl paperclip webhook inventory delivery --data -")]
    Webhook {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
        /// Key of the endpoint in the plugin's manifest
        endpoint: String,
        /// Body: text, @FILE, or - for standard input
        #[arg(long, value_name = "DATA|@FILE|-")]
        data: Source,
        /// Header as NAME:VALUE; may be given more than once
        #[arg(long = "header", value_name = "NAME:VALUE")]
        headers: Vec<Header>,
    },
    /// List, start and follow jobs of a plugin
    #[command(after_help = "\
Examples:
  kubectl paperclip job inventory list
  kubectl paperclip job inventory trigger recount --wait
  kubectl paperclip job inventory runs recount")]
    Job {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
        /// What to do.
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Print the logs of a plugin's workers and sidecars, interleaved by time
    #[command(after_help = "\
Examples:
  kubectl paperclip logs inventory --tail 100
  kubectl paperclip logs inventory -f --since 10m
  kubectl paperclip logs inventory --stored --level error --since 2h")]
    Logs {
        /// Name of the plugin, or NAMESPACE/NAME
        plugin: PluginName,
        /// Keep printing as lines arrive, also from pods that start later
        #[arg(short, long)]
        follow: bool,
        /// Lines to show from the end of each container's log. Default: all
        #[arg(long, value_name = "LINES")]
        tail: Option<u32>,
        /// Only lines newer than this, as in 30s, 10m or 2h
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        since: Option<Duration>,
        /// Print the time of each line
        #[arg(long)]
        timestamps: bool,
        /// Print what the plugin's host keeps instead, from pods that are gone, too
        #[arg(long, conflicts_with = "follow")]
        stored: bool,
        /// With --stored: only entries of this level, as in error
        #[arg(long, requires = "stored")]
        level: Option<String>,
    },
    /// Pack a plugin on this machine into the artifact that the cluster would make of it
    #[command(after_help = "\
Needs no cluster. Brings the pinned Node and npm once, and writes an OCI image layout with the bill
of materials, the provenance and the lock attached. One lock gives one digest, here and there.

Examples:
  kubectl paperclip pack paperclip-plugin-example@1.2.3
  kubectl paperclip pack plugin.yaml --layout ./artifact
  kubectl paperclip pack @acme/tea@1.2.3 --lock package-lock.json -o name")]
    Pack(PackArguments),
    /// Show what an artifact is, without pulling its tree
    #[command(after_help = "\
Needs no cluster. Credentials are those of `docker login`.

Examples:
  kubectl paperclip inspect ./artifact
  kubectl paperclip inspect ./artifact --sbom > bom.json
  kubectl paperclip inspect registry.example/plugins/acme--tea:v1.2.3 --provenance")]
    Inspect(InspectArguments),
    /// Check every byte of an artifact, and its tree, lock, bill of materials and provenance against each other
    #[command(after_help = "\
Needs no cluster. Ends with 0 when everything agrees, and with 1 when something does not.

Examples:
  kubectl paperclip verify ./artifact
  kubectl paperclip verify registry.example/plugins/acme--tea@sha256:… -o json
  kubectl paperclip verify --key cosign.pub registry.example/plugins/acme--tea@sha256:…")]
    Verify(VerifyArguments),
    /// Print a completion script
    #[command(after_help = "\
For kubectl itself, put a script where PATH finds it:
  kubectl paperclip completion kubectl > /usr/local/bin/kubectl_complete-paperclip
  chmod +x /usr/local/bin/kubectl_complete-paperclip

Examples:
  kubectl paperclip completion bash > /etc/bash_completion.d/kubectl-paperclip")]
    Completion {
        /// The shell, or `kubectl` for the script that kubectl looks for
        shell: CompletionTarget,
    },
    /// Answers kubectl's own completion: prints candidates for the last word
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words after `kubectl paperclip`, the last one unfinished
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Seals this process and becomes the program
    #[command(name = SEAL_COMMAND, hide = true)]
    SealedNode(SealedNode),
}

/// Arguments of `pack`.
#[derive(Args, Debug, Default)]
pub struct PackArguments {
    /// Package and exact version, or a file with a PaperclipPlugin
    #[arg(value_name = "NAME@VERSION|FILE.yaml")]
    pub what: String,
    /// A package-lock.json to install from. Default: the file's, else a new one is resolved
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// URL of the npm registry
    #[arg(
        long,
        value_name = "URL",
        env = "PAPERCLIP_NPM_REGISTRY",
        hide_env_values = true,
        default_value = "https://registry.npmjs.org/"
    )]
    pub registry: String,
    /// PEM of authorities to trust for the registry beside the usual ones
    #[arg(
        long,
        value_name = "FILE",
        env = "NODE_EXTRA_CA_CERTS",
        hide_env_values = true
    )]
    pub registry_ca: Option<PathBuf>,
    /// An .npmrc with the credential for the registry
    #[arg(long, value_name = "FILE")]
    pub npmrc: Option<PathBuf>,
    /// A platform to pack for, once for each of the cluster's. Default: linux/amd64
    #[arg(long, value_name = "OS/CPU")]
    pub platform: Vec<Platform>,
    /// Folder for the OCI image layout and the lock. Default: NAME-VERSION
    #[arg(long, value_name = "FOLDER")]
    pub layout: Option<PathBuf>,
    /// Folder that keeps Node and npm between runs. Default: paperclip-kubernetes in the user's cache
    #[arg(
        long,
        value_name = "FOLDER",
        env = "PAPERCLIP_CACHE",
        hide_env_values = true
    )]
    pub cache: Option<PathBuf>,
}

/// Where an artifact is.
#[derive(Args, Debug, Default)]
pub struct LocationArguments {
    /// Folder with an OCI image layout, HOST/REPOSITORY:TAG, or HOST/REPOSITORY@DIGEST
    #[arg(value_name = "REFERENCE|FOLDER")]
    pub location: String,
    /// Speak HTTP without TLS with the registry
    #[arg(long)]
    pub plain_http: bool,
    /// PEM of the only authorities to trust for the registry
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArguments {
    /// Where it is.
    #[command(flatten)]
    pub location: LocationArguments,
    /// PEM of public keys, one of which must have signed the artifact
    ///
    /// Those of a platform are in ConfigMap paperclip-signing-keys of its namespace.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Arguments of `inspect`.
#[derive(Args, Debug)]
#[group(id = "part", multiple = false, args = ["sbom", "provenance", "lock", "manifest"])]
pub struct InspectArguments {
    /// Where it is.
    #[command(flatten)]
    pub location: LocationArguments,
    /// Print the CycloneDX bill of materials
    #[arg(long)]
    pub sbom: bool,
    /// Print the SLSA provenance
    #[arg(long)]
    pub provenance: bool,
    /// Print the lock
    #[arg(long)]
    pub lock: bool,
    /// Print the plugin manifest
    #[arg(long)]
    pub manifest: bool,
}

/// Arguments of the seal, which `pack` gives to itself.
#[derive(Args, Debug)]
pub struct SealedNode {
    #[arg(long)]
    program: PathBuf,
    #[arg(long)]
    readable: Vec<PathBuf>,
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl From<SealedNode> for Seal {
    fn from(sealed: SealedNode) -> Self {
        let SealedNode {
            program,
            readable,
            arguments,
        } = sealed;
        Self {
            program,
            arguments,
            readable,
        }
    }
}

/// Arguments of `data` and `action`.
#[derive(Args, Debug)]
pub struct Keyed {
    /// Name of the plugin, or NAMESPACE/NAME
    pub plugin: PluginName,
    /// Key that the plugin registered
    pub key: String,
    /// Parameters and company.
    #[command(flatten)]
    pub input: Input,
}

/// Parameters of a call, and the company it is made for.
#[derive(Args, Debug)]
pub struct Input {
    /// Parameters: a JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub params: Option<Source>,
    /// Company the call is made for
    #[arg(long, value_name = "UUID", default_value = DEFAULT_COMPANY, hide_default_value = true)]
    pub company: String,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List the jobs of the plugin
    List,
    /// Start a job now
    Trigger {
        /// Key of the job
        key: String,
        /// Wait until the run has ended; fails when the run fails
        #[arg(long)]
        wait: bool,
    },
    /// List the latest runs of a job
    Runs {
        /// Key of the job
        key: String,
    },
}

/// What completion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompletionTarget {
    /// Bash
    Bash,
    /// Elvish
    Elvish,
    /// Fish
    Fish,
    /// PowerShell
    Powershell,
    /// Zsh
    Zsh,
    /// The script `kubectl_complete-paperclip`
    Kubectl,
}

/// A plugin as named by a user: `NAME` or `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginName {
    /// Namespace, when it was given with the name.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl FromStr for PluginName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let is_label = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if !is_label(name) || !namespace.is_none_or(is_label) {
            return Err("wanted NAME or NAMESPACE/NAME, of a-z, 0-9 and -".to_owned());
        }
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

/// Where bytes come from: the argument itself, a file, or standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text of the argument.
    Text(String),
    /// A file, from `@FILE`.
    File(PathBuf),
    /// Standard input, from `-`.
    StandardInput,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if text == "-" => Self::StandardInput,
            None => Self::Text(text.to_owned()),
        })
    }
}

/// An HTTP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: http::HeaderName,
    /// Value.
    pub value: http::HeaderValue,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("wanted NAME:VALUE")?;
        Ok(Self {
            name: name.trim().parse().map_err(|error| format!("{error}"))?,
            value: value.trim().parse().map_err(|error| format!("{error}"))?,
        })
    }
}

/// Reads `45`, `45s`, `10m` or `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is no duration: wanted a number with s, m or h, as in 30s");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wanted()),
    };
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["kubectl-paperclip"], words].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        let before = parse(&["-n", "shop", "-o", "json", "get", "tea"]).unwrap();
        let after = parse(&["get", "tea", "-n", "shop", "-o", "json"]).unwrap();
        for cli in [before, after] {
            assert_eq!(cli.global.namespace.as_deref(), Some("shop"));
            assert_eq!(cli.global.output, Some(Form::Json));
        }
    }

    #[test]
    fn a_plugin_is_named_with_or_without_its_namespace() {
        let name: PluginName = "shop/tea".parse().unwrap();
        assert_eq!(name.namespace.as_deref(), Some("shop"));
        assert_eq!(name.name, "tea");
        let name: PluginName = "tea".parse().unwrap();
        assert_eq!(name.namespace, None);
        for wrong in ["", "/tea", "shop/", "a/b/c", "Tea", "tea pot"] {
            assert!(wrong.parse::<PluginName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_come_from_the_argument_a_file_or_standard_input() {
        assert_eq!("-".parse(), Ok(Source::StandardInput));
        assert_eq!("@a/b".parse(), Ok(Source::File("a/b".into())));
        assert_eq!("{}".parse(), Ok(Source::Text("{}".into())));
    }

    #[test]
    fn a_header_keeps_colons_of_its_value() {
        let header: Header = "X-Time: 10:30".parse().unwrap();
        assert_eq!(header.name, "x-time");
        assert_eq!(header.value, "10:30");
        assert!("no colon".parse::<Header>().is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "m", "1d", "-1s", "1.5s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_kinds_of_token_are_refused() {
        assert!(parse(&["--token", "a", "--own-token", "list"]).is_err());
    }

    #[test]
    fn a_job_is_started_by_its_key() {
        let cli = parse(&["job", "shop/tea", "trigger", "recount", "--wait"]).unwrap();
        let Command::Job {
            command: JobCommand::Trigger { key, wait },
            ..
        } = cli.command
        else {
            panic!("not a trigger: {:?}", cli.command);
        };
        assert_eq!((key.as_str(), wait), ("recount", true));
    }
}
