//! `paperclip-packer`: packs npm packages into plugin artifacts, in a Job or by hand.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use paperclip_artifact::trust::SigningKey;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_error_chain::chain;
use paperclip_oci::client::{StoreClient, StoreError, StoreOptions};
use paperclip_oci::source::Source;
use paperclip_packer::local::{self, Local};
use paperclip_packer::npm::registry::Registry;
use paperclip_packer::npm::toolchain::{self, Toolchain};
use paperclip_packer::sandbox::evaluate::{Evaluator, SEAL_COMMAND, SEAL_FAILED};
use paperclip_packer::sandbox::seal::Seal;
use paperclip_packer::source::promote;
use paperclip_packer::steps::assemble::Assembled;
use paperclip_packer::steps::package::{Package, RemoteTarball, Terms};
use paperclip_packer::steps::publish::{self, Publication};
use paperclip_packer::steps::verify;
use paperclip_packer::steps::work::Work;
use paperclip_packing_api::job;
use paperclip_packing_api::policies::{self, Policies};
use paperclip_packing_api::report::{self, Failure, FailureReason, PACKAGE_AT_FAULT, StepReport};
use paperclip_packing_api::request::{self, PackRequest, StoreEndpoints};
use paperclip_packing_api::resolve::{self, ResolveRequest, Resolved, Wanted};
use paperclip_packing_api::verification::{self, VerificationReport, VerifyRequest};
use serde::{Serialize, de::DeserializeOwned};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "Examples:
  # Pack a published plugin into an OCI image layout and print its digest
  paperclip-packer pack --package paperclip-plugin-example --version 1.2.3 --output ./artifact

  # The same bytes again, from the lock of the first run
  paperclip-packer pack --package paperclip-plugin-example --version 1.2.3 \\
      --lock ./artifact/package-lock.json --output ./again";

/// Packs an npm package with its whole dependency tree as a plugin artifact.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Finds the exact version that a range or a dist-tag stands for
    Resolve(Resolve),
    /// Step one of the packing Job: brings the package and its dependencies into the work folder
    Fetch(Step),
    /// Step two: evaluates the plugin manifest in a sealed process
    Evaluate(Step),
    /// Step three: checks the artifact by the policies, signs it and pushes it to the store
    Push(Push),
    /// Checks the signatures that were recorded of an artifact in the store
    Verify(Verify),
    /// Packs on this machine, without a cluster
    Pack(Pack),
    /// Seals this process and becomes the program
    #[command(name = SEAL_COMMAND, hide = true)]
    SealedNode(SealedNode),
}

#[derive(Args)]
struct Resolve {
    /// The request, as JSON
    #[arg(long, env = resolve::ENVIRONMENT, hide_env_values = true)]
    request: String,
    #[command(flatten)]
    npm: NpmAccess,
}

#[derive(Args)]
struct Verify {
    /// The request, as JSON
    #[arg(long, env = verification::ENVIRONMENT, hide_env_values = true)]
    request: String,
    #[command(flatten)]
    store: StoreAccess,
    #[command(flatten)]
    report: ReportFile,
}

/// How a step comes to the artifact store.
#[derive(Args)]
struct StoreAccess {
    /// Folder with `username`, `password` and `ca.crt` of the artifact store
    #[arg(
        long,
        env = "PAPERCLIP_PACK_STORE_DIR",
        default_value = job::STORE
    )]
    store_dir: PathBuf,
}

/// The file for a step's report.
#[derive(Args)]
struct ReportFile {
    /// File that takes the report
    #[arg(long, env = "PAPERCLIP_PACK_TERMINATION_LOG", default_value_os_t = report::termination_log())]
    termination_log: PathBuf,
}

/// How a step comes to npm.
#[derive(Args)]
struct NpmAccess {
    /// Folder that the steps share
    #[arg(long, env = "PAPERCLIP_PACK_WORK_DIR", default_value = job::WORK)]
    work_dir: PathBuf,
    /// Folder with `ca.crt` and `npmrc` for the npm registry, each optional
    #[arg(
        long,
        env = "PAPERCLIP_PACK_NPM_DIR",
        default_value = job::NPM
    )]
    npm_dir: PathBuf,
    /// Folder with what a source that is no npm registry asks for: `ca.crt`, and `npmrc` for a
    /// tarball, `username` and `password` for an image, each optional
    #[arg(
        long,
        env = "PAPERCLIP_PACK_SOURCE_DIR",
        default_value = job::SOURCE
    )]
    source_dir: PathBuf,
    /// Folder of the pinned Node and npm
    #[arg(long, env = "PAPERCLIP_PACK_TOOLCHAIN", default_value = toolchain::IMAGE_FOLDER)]
    toolchain: PathBuf,
    #[command(flatten)]
    report: ReportFile,
}

/// What every step of the Job takes.
#[derive(Args)]
struct Step {
    /// The request, as JSON
    #[arg(long, env = request::ENVIRONMENT, hide_env_values = true)]
    request: String,
    #[command(flatten)]
    store: StoreAccess,
    #[command(flatten)]
    npm: NpmAccess,
}

/// What the last step takes beside that.
#[derive(Args)]
struct Push {
    #[command(flatten)]
    step: Step,
    /// What the artifact must carry, as JSON; without it nothing is asked
    #[arg(long, env = policies::ENVIRONMENT, hide_env_values = true)]
    policies: Option<String>,
    /// Folder with `key.pem`, the platform's signing key; without it nothing is signed
    #[arg(
        long,
        env = "PAPERCLIP_PACK_SIGNING_DIR",
        default_value = job::SIGNING
    )]
    signing_dir: PathBuf,
}

#[derive(Args)]
struct Pack {
    /// Name of the package, with its scope if it has one
    #[arg(long)]
    package: String,
    /// Exact version
    #[arg(long)]
    version: String,
    /// A package-lock.json to install from; without it a new one is resolved
    #[arg(long)]
    lock: Option<PathBuf>,
    /// URL of the npm registry
    #[arg(long, env = "PAPERCLIP_NPM_REGISTRY")]
    registry: String,
    /// PEM of authorities to trust for the registry beside the usual ones
    #[arg(long, env = "NODE_EXTRA_CA_CERTS")]
    registry_ca: Option<PathBuf>,
    /// An .npmrc with the credential for the registry
    #[arg(long)]
    npmrc: Option<PathBuf>,
    /// A platform to pack for, as in `linux/arm64`; may be given more than once
    /// [default: linux/amd64]
    #[arg(long)]
    platform: Vec<Platform>,
    /// Folder for the OCI image layout and the lock
    #[arg(long)]
    output: PathBuf,
    /// Folder that keeps the pinned Node and npm between runs [default: a folder of the user's cache]
    #[arg(long, env = "PAPERCLIP_CACHE")]
    cache: Option<PathBuf>,
}

#[derive(Args)]
struct SealedNode {
    #[arg(long)]
    program: PathBuf,
    #[arg(long)]
    readable: Vec<PathBuf>,
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        // First of all: the seal wants a process with one thread.
        Command::SealedNode(SealedNode {
            program,
            readable,
            arguments,
        }) => {
            let error = Seal {
                program,
                arguments,
                readable,
            }
            .execute();
            eprintln!("{}", chain(&error));
            ExitCode::from(u8::try_from(SEAL_FAILED).unwrap_or(1))
        }
        command => run(command),
    }
}

fn run(command: Command) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    // Only another provider that is already there can make this fail, and then it serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match command {
            Command::Resolve(step) => {
                report(&step.npm.report.termination_log, look_up(&step).await)
            }
            Command::Fetch(step) => report(&step.npm.report.termination_log, fetch(&step).await),
            Command::Evaluate(step) => report(&step.npm.report.termination_log, evaluate(&step)),
            Command::Push(push) => {
                report(&push.step.npm.report.termination_log, publish(&push).await)
            }
            Command::Verify(step) => report(&step.report.termination_log, verify(&step).await),
            Command::Pack(pack) => print(pack_here(&pack).await),
            Command::SealedNode(_) => ExitCode::FAILURE,
        }
    })
}

async fn look_up(step: &Resolve) -> Result<Resolved, Failure> {
    let request: ResolveRequest = parse(&step.request, "request")?;
    request.validate().map_err(failed)?;
    let work = Work::at(&step.npm.work_dir);
    match &request.wanted {
        Wanted::Npm {
            registry,
            package,
            range,
        } => {
            let of_tenant = request.tenant.is_some();
            let registry = registry_of(registry, &step.npm.npm_dir, of_tenant);
            let toolchain = Toolchain::at(&step.npm.toolchain);
            let looked = work.look_up(package, range, &registry, &toolchain).await;
            looked.map_err(|e| Failure::from(&e))
        }
        Wanted::Tarball { url, integrity } => {
            let access = &registry_of(url, &step.npm.source_dir, true);
            let looked = work.look_up_tarball(RemoteTarball { url, access }, integrity);
            looked.await.map_err(|e| Failure::from(&e))
        }
        Wanted::Image {
            repository,
            reference,
        } => {
            let source = image_source(repository, &step.npm.source_dir)?;
            let looked = promote::look_up(&source, reference).await;
            looked.map_err(|e| Failure::from(&e))
        }
    }
}

/// A repository of a registry that a tenant named.
fn image_source(repository: &str, folder: &Path) -> Result<Source, Failure> {
    let repository = request::parse_repository(repository).map_err(failed)?;
    let options =
        StoreOptions::from_folder(&repository.address, folder).map(|options| StoreOptions {
            of_tenant: true,
            ..options
        });
    let client = options.and_then(StoreClient::new);
    Ok(Source::Store {
        client: client.map_err(|e| Failure {
            // An address that no registry may be at, or that is none.
            reason: match e {
                StoreError::Setup { .. } => FailureReason::PackageRefused,
                _ => FailureReason::PackingFailed,
            },
            message: chain(&e),
        })?,
        repository: repository.path,
    })
}

async fn fetch(step: &Step) -> Result<report::Fetched, Failure> {
    let request = parse_request(step)?;
    if let Some(single_file) = &request.single_file {
        let work = Work::at(&step.npm.work_dir);
        let laid_out = work.lay_out(single_file, &request.platforms);
        return laid_out.map_err(|e| Failure::from(&e));
    }
    if let Some(image) = &request.image {
        let source = image_source(&image.repository, &step.npm.source_dir)?;
        let work = &step.npm.work_dir;
        let brought = publish::bring_image(&source, &image.digest, &request.platforms, work).await;
        return brought.map_err(|e| Failure::from(&e));
    }
    let access = request.tarball.as_deref();
    let access = access.map(|url| (url, registry_of(url, &step.npm.source_dir, true)));
    // Dependencies of a tarball come from the platform's registry, with its credential.
    let of_tenant = request.tenant.is_some() && access.is_none();
    let registry = registry_of(&request.registry, &step.npm.npm_dir, of_tenant);
    let store = connect(&step.store.store_dir, &request.store, &request.store.read)?;
    let work = Work::at(&step.npm.work_dir);
    let terms = Terms {
        integrity: request.integrity.as_deref(),
        tarball: access
            .as_ref()
            .map(|(url, access)| RemoteTarball { url, access }),
        owner: request.owner(),
    };
    let toolchain = Toolchain::at(&step.npm.toolchain);
    let package = Package::from(&request);
    let fetched = work.fetch_on(
        &terms,
        &package,
        &registry,
        &toolchain,
        Some((&store, &request.repository)),
    );
    fetched.await.map_err(|e| Failure::from(&e))
}

fn evaluate(step: &Step) -> Result<report::Evaluated, Failure> {
    parse_request(step)?;
    let evaluator = Evaluator {
        packer: this_program()?,
        toolchain: Toolchain::at(&step.npm.toolchain),
    };
    Work::at(&step.npm.work_dir)
        .evaluate(&evaluator)
        .map_err(|e| Failure::from(&e))
}

async fn publish(push: &Push) -> Result<report::Published, Failure> {
    let Push {
        step,
        policies,
        signing_dir,
    } = push;
    let request = parse_request(step)?;
    let demand = match policies {
        Some(policies) => parse(policies, "policies")?,
        None => Policies::default(),
    };
    let key = signing_key(signing_dir)?;
    let store = connect(&step.store.store_dir, &request.store, &request.store.push)?;
    let publication = Publication {
        store: &store,
        repository: &request.repository,
        tag: &request.tag(),
        demand: &demand,
        key: key.as_ref(),
    };
    let work = &step.npm.work_dir;
    let published = match &request.image {
        Some(image) => publication.image(work, image).await,
        None => {
            let keeps_tarballs = request.single_file.is_none();
            publication.package(&Work::at(work), keeps_tarballs).await
        }
    };
    published.map_err(|e| Failure::from(&e))
}

/// The platform's key, if one is mounted.
fn signing_key(folder: &Path) -> Result<Option<SigningKey>, Failure> {
    let path = folder.join(job::SIGNING_KEY);
    match fs::read(&path) {
        Ok(pem) => SigningKey::parse(&pem).map(Some).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("cannot read {}: {error}", path.display()))),
    }
}

async fn verify(step: &Verify) -> Result<VerificationReport, Failure> {
    let request: VerifyRequest = parse(&step.request, "request")?;
    request.validate().map_err(failed)?;
    let VerifyRequest { store, .. } = &request;
    let store = connect(&step.store.store_dir, store, &store.push)?;
    let judged = verify::judge(&store, &request).await;
    judged.map_err(|e| Failure::from(&e))
}

async fn pack_here(pack: &Pack) -> Result<Assembled, Failure> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|e| failed(format!("cannot read {}: {e}", path.display())))
    };
    let lock = pack.lock.as_ref().map(read).transpose()?;
    let registry = Registry {
        ca: pack.registry_ca.clone(),
        npmrc: pack.npmrc.clone(),
        ..Registry::new(&pack.registry)
    };
    let cache = pack.cache.clone().or_else(local::user_cache);
    let cache = cache.ok_or_else(|| failed("HOME is not set: use --cache"))?;
    let local = Local {
        registry: &registry,
        cache: &cache,
        program: this_program()?,
    };
    let package = Package {
        name: &pack.package,
        version: &pack.version,
        lock: lock.as_deref(),
        relock: None,
        platforms: &platforms_of(&pack.platform),
    };
    let assembled = local.pack(&package, |_| ()).await;
    let assembled = assembled.map_err(|e| Failure::from(&e))?;
    local::write(&assembled, &pack.output).map_err(|e| Failure::from(&e))?;
    Ok(assembled)
}

/// The platforms that were named, else the one that every cluster had before there were more.
fn platforms_of(named: &[Platform]) -> Platforms {
    match named {
        [] => Platforms::default(),
        named => named.iter().cloned().collect(),
    }
}

fn parse_request(step: &Step) -> Result<PackRequest, Failure> {
    let request: PackRequest = parse(&step.request, "pack request")?;
    request.validate().map_err(failed)?;
    Ok(request)
}

fn parse<T: DeserializeOwned>(request: &str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(request).map_err(|e| failed(format!("cannot read the {what}: {e}")))
}

/// A failure that is neither the package's nor a registry's.
fn failed(why: impl Display) -> Failure {
    Failure {
        reason: FailureReason::PackingFailed,
        message: why.to_string(),
    }
}

fn registry_of(url: &str, folder: &Path, of_tenant: bool) -> Registry {
    let existing = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    Registry {
        ca: existing("ca.crt"),
        npmrc: existing("npmrc"),
        of_tenant,
        ..Registry::new(url)
    }
}

fn connect(folder: &Path, store: &StoreEndpoints, address: &str) -> Result<StoreClient, Failure> {
    let options = StoreOptions::from_folder(address, folder).map(|options| StoreOptions {
        plain_http: store.plain_http,
        ..options
    });
    options.and_then(StoreClient::new).map_err(|e| Failure {
        reason: FailureReason::StoreUnavailable,
        message: chain(&e),
    })
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| failed(format!("cannot find this program: {e}")))
}

/// Writes the outcome where the kubelet, or whoever runs the step, finds it.
fn report<T: Serialize>(path: &Path, result: Result<T, Failure>) -> ExitCode {
    let code = exit_code(&result);
    if let Err(failure) = &result {
        tracing::error!(reason = ?failure.reason, "{}", failure.message);
    }
    let outcome = match result {
        Ok(value) => StepReport::Ok(value),
        Err(failure) => StepReport::Error(failure),
    };
    let written = outcome
        .to_message()
        .map_err(std::io::Error::from)
        .and_then(|message| fs::write(path, message));
    match written {
        Ok(()) => code,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot write the outcome");
            ExitCode::FAILURE
        }
    }
}

fn print(result: Result<Assembled, Failure>) -> ExitCode {
    let code = exit_code(&result);
    match result {
        Ok(assembled) => println!("{}", assembled.packed().digest()),
        Err(failure) => eprintln!("{:?}: {}", failure.reason, failure.message),
    }
    code
}

fn exit_code<T>(result: &Result<T, Failure>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) if failure.reason.is_fault_of_package() => ExitCode::from(PACKAGE_AT_FAULT),
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_step_of_a_job_is_a_command_and_finds_its_folders_by_itself() {
        let program = Arguments::command();
        for step in job::STEPS {
            let command = program.find_subcommand(step);
            let command = command.unwrap_or_else(|| panic!("{step} is no command"));
            let defaults = command
                .get_arguments()
                .flat_map(|one| one.get_default_values());
            let folders = defaults
                .filter_map(|value| value.to_str())
                .filter(|value| value.starts_with("/etc/paperclip") || *value == job::WORK);
            for folder in folders {
                assert!(job::FOLDERS.contains(&folder), "{step}: {folder}");
            }
        }
    }
}
