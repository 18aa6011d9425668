//! The layout of a plugin pod: what the operator renders and what the programs in it take for
//! granted. Constants alone.
//!
//! A pod has an init container that fetches the artifact, the sidecar, and the worker's container,
//! whose first process is the shim.

/// Names of the containers.
pub mod container {
    /// Brings artifact and shim into the pod, then ends.
    pub const FETCH: &str = "fetch";
    /// Serves the bridge beside the worker.
    pub const SIDECAR: &str = "sidecar";
    /// Runs the shim and the worker.
    pub const WORKER: &str = "worker";
}

/// Names of the volumes.
pub mod volume {
    /// The unpacked artifact.
    pub const ARTIFACT: &str = "artifact";
    /// The shim's program.
    pub const BIN: &str = "bin";
    /// The socket between shim and sidecar.
    pub const RUN: &str = "run";
    /// The worker's `/tmp`.
    pub const TMP: &str = "tmp";
    /// Certificate, key and authority of the pod.
    pub const TLS: &str = "tls";
    /// What the sidecar cannot see of its pod for itself.
    pub const FACTS: &str = "facts";
    /// Config and secrets of the plugin.
    pub const CONFIG: &str = "config";
    /// Credential and authority of the artifact store.
    pub const STORE: &str = "store";
}

/// Where the volumes are mounted, and files in them.
pub mod path {
    /// The unpacked artifact.
    pub const ARTIFACT: &str = "/paperclip/artifact";
    /// The folder of the shim's program.
    pub const BIN: &str = "/paperclip/bin";
    /// The shim's program, below [`BIN`].
    pub const SHIM: &str = "/paperclip/bin/paperclip-shim";
    /// The folder of the socket between shim and sidecar.
    pub const RUN: &str = "/paperclip/run";
    /// The socket between shim and sidecar, below [`RUN`].
    pub const SOCKET: &str = "/paperclip/run/shim.sock";
    /// The worker's folder for files of a moment.
    pub const TMP: &str = "/tmp";
    /// The folder of the pod's certificate, key and authority.
    pub const TLS: &str = "/paperclip/tls";
    /// The folder of `facts.json`.
    pub const FACTS: &str = "/paperclip/facts";
    /// The folder of `config.json`.
    pub const CONFIG: &str = "/paperclip/config";
    /// The folder of the credential and the authority of the artifact store.
    pub const STORE: &str = "/paperclip/store";
}

/// Programs of the sidecar's image.
pub mod program {
    /// Fetches the artifact.
    pub const FETCH: &str = "/usr/local/bin/paperclip-fetch";
    /// The sidecar.
    pub const SIDECAR: &str = "/usr/local/bin/paperclip-sidecar";
}

/// Keys of the Secret of the artifact store, which are the names of its files.
pub mod store {
    /// Authority of the store's certificate; absent for a public one.
    pub const CA: &str = "ca.crt";
    /// Name of a user, beside [`PASSWORD`].
    pub const USERNAME: &str = "username";
    /// Password of that user.
    pub const PASSWORD: &str = "password";
    /// A bearer token, in place of a user.
    pub const TOKEN: &str = "token";
}

/// Ports, their names, and what is served there.
pub mod port {
    /// Port of the bridge.
    pub const GRPC: u16 = 8443;
    /// Its name.
    pub const GRPC_NAME: &str = "grpc";
    /// Address of the bridge in the pod.
    pub const GRPC_LISTEN: &str = "0.0.0.0:8443";
    /// Port of probes and metrics.
    pub const HEALTH: u16 = 8081;
    /// Its name.
    pub const HEALTH_NAME: &str = "health";
    /// Address of probes and metrics in the pod.
    pub const HEALTH_LISTEN: &str = "0.0.0.0:8081";
    /// Path of the readiness probe.
    pub const READY: &str = "/readyz";
    /// Path of the liveness probe.
    pub const LIVE: &str = "/livez";
    /// Path of the metrics.
    pub const METRICS: &str = "/metrics";
}

/// Environment variables that more than one part knows. Each stands for a flag.
pub mod variable {
    /// The socket between shim and sidecar.
    pub const SOCKET: &str = "PAPERCLIP_SOCKET";
    /// Keys in PEM, one of which must have signed the artifact.
    pub const SIGNING_KEYS: &str = "PAPERCLIP_SIGNING_KEYS";
}

/// Flags of the programs, as the operator renders them.
pub mod arguments {
    use super::{path, port};

    /// What every sidecar is started with.
    pub const SIDECAR: [&str; 14] = [
        "--facts-dir",
        path::FACTS,
        "--config-dir",
        path::CONFIG,
        "--artifact-dir",
        path::ARTIFACT,
        "--tls-dir",
        path::TLS,
        "--socket",
        path::SOCKET,
        "--grpc-listen",
        port::GRPC_LISTEN,
        "--health-listen",
        port::HEALTH_LISTEN,
    ];
    /// The sidecar's flag for the memory limit of the worker's container, in bytes.
    pub const WORKER_MEMORY: &str = "--worker-memory-bytes";
    /// What every fetch is started with, beside [`REFERENCE`] and [`MARKER`].
    pub const FETCH: [&str; 6] = [
        "--artifact-dir",
        path::ARTIFACT,
        "--bin-dir",
        path::BIN,
        "--store-dir",
        path::STORE,
    ];
    /// The flag of fetch for the artifact's reference, by digest.
    pub const REFERENCE: &str = "--reference";
    /// The flag of fetch for the marker that the artifact must have.
    pub const MARKER: &str = "--marker";
}

/// Longest times of the way out.
pub mod time {
    use std::time::Duration;

    /// For open calls to end.
    pub const CALLS: Duration = Duration::from_secs(30);
    /// For runs of jobs to end, which is also enough for open calls.
    pub const JOBS: Duration = Duration::from_secs(310);
    /// For the worker to be stopped once the pod is drained.
    pub const STOP: Duration = Duration::from_secs(20);
}
