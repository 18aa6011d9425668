//! Packs a package, step by step: fetch, evaluate, assemble, push.
//!
//! The steps share a work folder and nothing else, so that each can run in a container
//! of its own, with only the credential it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inputs::{CONFIG_MAP, Inputs, LOCK_MEDIA_TYPE};
use paperclip_artifact::inspect::InspectError;
use paperclip_artifact::installed::InstalledError;
use paperclip_artifact::lock::{self, Lock, LockError, MissingPeer};
use paperclip_artifact::native::{self, NativeError};
use paperclip_artifact::pull::PullError;
use paperclip_artifact::sbom::{self, SbomError};
use paperclip_artifact::tree::{self, Entry, FACTS, TreeError};
use paperclip_artifact::trust::{Refusal, Subject};
use paperclip_artifact::{annotations, limits, provenance, toolchain};
use paperclip_artifact_format::marker;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_error_chain::chain;
use paperclip_oci::canonical;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::{Image, ImageBuilder, ImageError, Layer, LayerBuilder};
use paperclip_oci::index::{Packed, Top};
use paperclip_oci::layout::LayoutError;
use paperclip_oci::referrers::{self, Referrer};
use paperclip_oci::source::SourceError;
use paperclip_packing_api::inline::Inline;
use paperclip_packing_api::outcome::{Evaluated, Failure, FailureReason, Fetched, Pushed};
use paperclip_packing_api::request::PackRequest;
use paperclip_packing_api::resolve::Resolved;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::evidence;
use crate::npm::install::{InstallError, Npm};
use crate::npm::lookup::{self, Found};
use crate::npm::normalise::{self, NormaliseError};
use crate::npm::registry::{FetchError, Registry, RegistryClient};
use crate::npm::tarballs::{self, Sources, TarballError};
use crate::npm::toolchain::Toolchain;
use crate::sandbox::evaluate::{EvaluateError, Evaluator};
use crate::source::promote::PromoteError;
use crate::source::single_file::{self, SingleFileError};
use crate::source::tarball::{Given, GivenError};

/// What to pack.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    /// Name of the package.
    pub name: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// Text of the lock to install from, if one is given.
    pub lock: Option<&'a str>,
    /// The act of locking anew that a recorded lock must come from.
    pub relock: Option<&'a str>,
    /// Where the artifact is to run.
    pub platforms: &'a Platforms,
}

impl<'a> From<&'a PackRequest> for Package<'a> {
    fn from(request: &'a PackRequest) -> Self {
        Self {
            name: &request.package,
            version: &request.version,
            lock: request.lock.as_deref(),
            relock: request.relock.as_deref(),
            platforms: &request.platforms,
        }
    }
}

/// What is asked of a package beyond its name and version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The integrity that an earlier look found.
    pub integrity: Option<&'a str>,
    /// Where its tarball is, when no registry has it.
    pub tarball: Option<RemoteTarball<'a>>,
    /// Fingerprint of the tenant whose registry or credential this is, if not the platform's.
    pub owner: Option<&'a str>,
}

/// A tarball behind a URL.
#[derive(Clone, Copy, Debug)]
pub struct RemoteTarball<'a> {
    /// The URL.
    pub url: &'a str,
    /// Authority and credential for it.
    pub access: &'a Registry,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// npm or the lock.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The lock alone.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A plugin of one file.
    #[error(transparent)]
    SingleFile(#[from] SingleFileError),
    /// The tree.
    #[error(transparent)]
    Normalise(#[from] NormaliseError),
    /// The tree, listed again.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A native addon.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The manifest.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The package is another plugin on another CPU.
    #[error(
        "the plugin manifest is not the same in the trees for {platforms}: wanted one for the whole artifact"
    )]
    Manifests {
        /// Two platforms with different ones.
        platforms: Platforms,
    },
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The bill of materials.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client of the registry.
    #[error(transparent)]
    Registry(#[from] FetchError),
    /// The tarballs, from the store or the registry.
    #[error(transparent)]
    Tarballs(#[from] TarballError),
    /// A tarball that was given by its URL.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// The registry has changed its mind about a version.
    #[error(
        "{package}: the registry serves integrity {served}, and wanted is {wanted}, which it served when it was looked up"
    )]
    Served {
        /// Package and version.
        package: String,
        /// What the registry says now.
        served: String,
        /// What it said before.
        wanted: String,
    },
    /// The lock names another tarball than the registry.
    #[error("{package}: the lock has integrity {locked}, and the registry {served}")]
    Integrity {
        /// Package and version.
        package: String,
        /// What the lock says.
        locked: String,
        /// What the registry says.
        served: String,
    },
    /// The packed tree is larger than anything would pull.
    #[error(
        "the packed package tree breaks the rule `layer-size`: found {found} bytes, wanted at most {}",
        limits::LAYER
    )]
    Layer {
        /// Its size.
        found: u64,
    },
    /// What the registry sent for signatures.
    #[error(transparent)]
    Evidence(#[from] Refusal),
    /// Another packing recorded a lock in the meantime.
    #[error(
        "another packing recorded lock {recorded} first, and this tree is of {ours}; pack again from the recorded one"
    )]
    LockRecorded {
        /// The recorded lock.
        recorded: Digest,
        /// This packing's.
        ours: Digest,
    },
    /// The work folder could not be used.
    #[error("cannot use {}: {why}", path.display())]
    Work {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

impl From<&PackError> for Failure {
    fn from(error: &PackError) -> Self {
        let reason = match error {
            PackError::Install(error) => reason_of_install(error),
            PackError::Lock(_)
            | PackError::SingleFile(SingleFileError::Lock(_))
            | PackError::Native(NativeError::Foreign { .. })
            | PackError::Integrity { .. }
            | PackError::Served { .. }
            | PackError::Evidence(_)
            | PackError::Layer { .. } => FailureReason::PackageRefused,
            PackError::Normalise(NormaliseError::Tree(TreeError::Refused { .. }))
            | PackError::Tree(TreeError::Refused { .. }) => FailureReason::PackageRefused,
            PackError::Evaluate(EvaluateError::Seal(_)) => FailureReason::PackingFailed,
            PackError::Evaluate(EvaluateError::Read { .. }) => FailureReason::PackageRefused,
            PackError::Registry(error) => reason_of_fetch(error),
            PackError::Tarballs(error) => reason_of_tarball(error),
            PackError::Given(error) => reason_of_given(error),
            PackError::Evaluate(EvaluateError::Missing(_)) => FailureReason::ManifestMissing,
            PackError::Evaluate(EvaluateError::Worker { .. }) => FailureReason::WorkerFileMissing,
            PackError::Manifests { .. }
            | PackError::SingleFile(SingleFileError::Inline(_))
            | PackError::Evaluate(
                EvaluateError::Failed { .. }
                | EvaluateError::Unstable { .. }
                | EvaluateError::Invalid(_),
            ) => FailureReason::ManifestInvalid,
            PackError::Store(_) => FailureReason::StoreUnavailable,
            PackError::Normalise(_)
            | PackError::SingleFile(SingleFileError::Write { .. })
            | PackError::Native(NativeError::Read { .. })
            | PackError::Tree(_)
            | PackError::Image(_)
            | PackError::Sbom(_)
            | PackError::LockRecorded { .. }
            | PackError::Work { .. } => FailureReason::PackingFailed,
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

fn reason_of_tarball(error: &TarballError) -> FailureReason {
    match error {
        TarballError::Refused(_) | TarballError::Total { .. } => FailureReason::PackageRefused,
        TarballError::Fetch { source, .. } => reason_of_fetch(source),
        TarballError::Store(_) => FailureReason::StoreUnavailable,
        TarballError::Cache { .. } | TarballError::Interrupted => FailureReason::PackingFailed,
    }
}

fn reason_of_given(error: &GivenError) -> FailureReason {
    match error {
        GivenError::Tarball(TarballError::Fetch {
            source: FetchError::Status { status, .. },
            ..
        }) if matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
            FailureReason::PackageNotFound
        }
        GivenError::Tarball(error) => reason_of_tarball(error),
        GivenError::Field { .. } | GivenError::Description { .. } => FailureReason::PackageRefused,
        GivenError::Read { .. } => FailureReason::PackingFailed,
    }
}

impl From<&PromoteError> for Failure {
    fn from(error: &PromoteError) -> Self {
        let reason = match error {
            PromoteError::Look { source, .. } => reason_of_source(source),
            PromoteError::Inspect(InspectError::Read { source, .. }) => reason_of_source(source),
            PromoteError::Inspect(InspectError::Unpack(
                PullError::Write { .. } | PullError::Interrupted,
            )) => FailureReason::PackingFailed,
            PromoteError::Inspect(_) | PromoteError::Platforms { .. } => {
                FailureReason::PackageRefused
            }
            PromoteError::Store(_) => FailureReason::StoreUnavailable,
            PromoteError::Layout(_) | PromoteError::Work { .. } => FailureReason::PackingFailed,
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

/// What a registry that is not the store did.
fn reason_of_source(error: &SourceError) -> FailureReason {
    match error {
        SourceError::NoTag { .. } => FailureReason::VersionNotFound,
        SourceError::Store(error) => match error {
            StoreError::Refused { status, .. }
                if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                FailureReason::RegistryAccessDenied
            }
            error if error.is_not_found() => FailureReason::PackageNotFound,
            StoreError::Mismatch { .. } => FailureReason::PackageRefused,
            StoreError::Write { .. } | StoreError::Credential { .. } => {
                FailureReason::PackingFailed
            }
            _ => FailureReason::RegistryUnavailable,
        },
        // The copy is ours, and what it holds is not.
        SourceError::Layout(LayoutError::Refused { .. }) => FailureReason::PackageRefused,
        SourceError::Layout(_) => FailureReason::PackingFailed,
    }
}

fn reason_of_install(error: &InstallError) -> FailureReason {
    match error {
        InstallError::PackageNotFound { .. } => FailureReason::PackageNotFound,
        InstallError::VersionNotFound { .. } => FailureReason::VersionNotFound,
        InstallError::Registry { .. } => FailureReason::RegistryUnavailable,
        InstallError::AccessDenied { .. } => FailureReason::RegistryAccessDenied,
        InstallError::Refused { .. }
        | InstallError::Platform { .. }
        | InstallError::Lock(_)
        | InstallError::Installed(InstalledError::Refused { .. }) => FailureReason::PackageRefused,
        InstallError::Fetch { source, .. } => reason_of_fetch(source),
        InstallError::Installed(InstalledError::Read { .. })
        | InstallError::Npm { .. }
        | InstallError::Work { .. } => FailureReason::PackingFailed,
    }
}

/// An answer that breaks a rule is the package's fault: the registry says of the package
/// what nobody may act on.
fn reason_of_fetch(error: &FetchError) -> FailureReason {
    match error {
        FetchError::Forbidden { .. }
        | FetchError::TooLarge { .. }
        | FetchError::Encoding { .. } => FailureReason::PackageRefused,
        FetchError::Status { status, .. }
            if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
        {
            FailureReason::RegistryAccessDenied
        }
        error if error.is_transient() => FailureReason::RegistryUnavailable,
        FetchError::Status { .. } => FailureReason::PackageRefused,
        _ => FailureReason::PackingFailed,
    }
}

/// Where a lock came from.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Origin {
    Given,
    Recorded,
    Resolved,
}

/// What `fetch` leaves for the steps after it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    inputs: Inputs,
    lock_digest: Digest,
    lock_origin: Origin,
    #[serde(default)]
    relock: Option<String>,
    trees: Vec<Tree>,
    /// Whether the artifact names the platforms it is for.
    bound: bool,
}

/// A tree that npm made, and the platforms it fits.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Tree {
    folder: PathBuf,
    platforms: Vec<Platform>,
}

/// The trees of an artifact.
struct Planted {
    trees: Vec<Tree>,
    bound: bool,
}

/// The folder that the steps share.
#[derive(Clone, Debug)]
pub struct Work {
    folder: PathBuf,
}

impl Work {
    /// A work folder that exists; what a step before left in it is used.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn tree_for(&self, platform: &Platform) -> PathBuf {
        self.folder.join(format!("tree-{}", platform.cpu))
    }

    fn state(&self) -> PathBuf {
        self.folder.join("fetched.json")
    }

    fn lock(&self) -> PathBuf {
        self.folder.join("package-lock.json")
    }

    /// What the registry said of signatures. A plugin of one file has none.
    fn evidence(&self) -> PathBuf {
        self.folder.join("evidence.json")
    }

    fn manifest(&self) -> PathBuf {
        self.folder.join("plugin-manifest.json")
    }

    /// The version that npm would take for a range or a dist-tag.
    ///
    /// # Errors
    /// When the registry fails, or has no such version.
    pub async fn look_up(
        &self,
        package: &str,
        range: &str,
        registry: &Registry,
        toolchain: &Toolchain,
    ) -> Result<Resolved, PackError> {
        let platform = Platform::default();
        let client = RegistryClient::new(registry)?;
        let tree = self.tree();
        let npm = Npm::new(toolchain, client, &platform, &self.folder, &tree).await?;
        Ok(npm.look_up(package, range).await?)
    }

    /// The package in a tarball.
    ///
    /// # Errors
    /// When it cannot be had, has another integrity, breaks a rule, or is no package.
    pub async fn look_up_tarball(
        &self,
        tarball: RemoteTarball<'_>,
        integrity: &str,
    ) -> Result<Resolved, PackError> {
        let given = self.bring_given(tarball, integrity).await?;
        Ok(Resolved {
            package: Some(given.name),
            version: given.version,
            integrity: integrity.to_owned(),
        })
    }

    async fn bring_given(
        &self,
        RemoteTarball { url, access }: RemoteTarball<'_>,
        integrity: &str,
    ) -> Result<Given, PackError> {
        let client = RegistryClient::new(access)?;
        tracing::info!("downloading the tarball of the package");
        Ok(Given::download(&client, url, integrity, &self.folder).await?)
    }

    /// Brings the package and its dependencies into the work folder: from the given lock,
    /// else the one recorded in the store, else a new one.
    ///
    /// # Errors
    /// When the registry or the store fails, or package or lock break a rule.
    pub async fn fetch(
        &self,
        package: &Package<'_>,
        registry: &Registry,
        toolchain: &Toolchain,
        store: Option<(&StoreClient, &str)>,
    ) -> Result<Fetched, PackError> {
        self.fetch_on(&Terms::default(), package, registry, toolchain, store)
            .await
    }

    /// As [`Self::fetch`], on terms.
    ///
    /// # Errors
    /// As [`Self::fetch`], and when the package does not keep to the terms.
    pub async fn fetch_on(
        &self,
        terms: &Terms<'_>,
        package: &Package<'_>,
        registry: &Registry,
        toolchain: &Toolchain,
        store: Option<(&StoreClient, &str)>,
    ) -> Result<Fetched, PackError> {
        let Package {
            name,
            version,
            platforms,
            ..
        } = *package;
        let mut client = RegistryClient::new(registry)?;
        let given = match terms.tarball {
            Some(tarball) => {
                let integrity = terms.integrity.unwrap_or_default();
                Some(self.bring_given(tarball, integrity).await?)
            }
            None => None,
        };
        if let Some(given) = &given {
            client = given.known_to(client);
        }
        let tree = self.tree();
        let any = Platform::default();
        let npm = Npm::new(toolchain, client.clone(), &any, &self.folder, &tree).await?;
        tracing::info!(package = name, version, "looking the package up");
        let Found { integrity, peers } = lookup::exact(&client, name, version).await?;
        check_served(package, &integrity, terms.integrity)?;
        let from = terms.tarball.map_or(registry.url.as_str(), |one| one.url);
        let inputs = Inputs {
            registry: from.to_owned(),
            package: name.into(),
            version: version.into(),
            integrity,
            platforms: platforms.clone(),
            owner: terms.owner.map(str::to_owned),
        };
        let (lock, lock_origin) = choose_lock(package, &inputs, (&npm, peers), store).await?;
        check_integrity(&inputs, &lock)?;
        tracing::info!(packages = lock.len(), lock = %lock.digest(), "installing from the lock");
        let sources = Sources {
            given: given.as_ref(),
            owner: terms.owner,
            store: store.map(|(store, _)| store),
            registry: &client,
        };
        let trees = async {
            tarballs::bring(sources, &Npm::cache(&self.folder), &lock, platforms).await?;
            tracing::info!("all tarballs are there and keep to the rules");
            self.plant(&npm, &lock, platforms).await
        };
        let evidence = async {
            match terms.tarball {
                Some(_) => Ok(()),
                None => self.keep_evidence(&client, &inputs).await,
            }
        };
        let (planted, ()) = tokio::try_join!(trees, evidence)?;
        self.keep(inputs, &lock, planted, (lock_origin, package.relock))
    }

    /// Has npm make the trees, one after the other, and leaves them as the steps after this
    /// want them. A platform that the package is not for is left out.
    async fn plant(
        &self,
        npm: &Npm<'_>,
        lock: &Lock,
        platforms: &Platforms,
    ) -> Result<Planted, PackError> {
        let mut trees = Vec::new();
        let mut left_out = Vec::new();
        let mut everywhere = false;
        for variant in lock.variants(platforms) {
            let Some(first) = variant.first() else {
                continue;
            };
            let folder = self.tree_for(first);
            match npm.for_platform(first, &folder)?.install(lock).await {
                Err(error @ InstallError::Platform { .. }) => {
                    left_out.push((variant, PackError::from(error)));
                    continue;
                }
                installed => installed?,
            }
            tracing::info!(platform = %first, "npm has made the tree");
            let root = folder.clone();
            let normalised = tokio::task::spawn_blocking(move || normalise::normalise(&root)).await;
            let entries = normalised.map_err(|e| work_error(&folder, e))??;
            let mut fitting = Vec::new();
            for platform in variant {
                match native::check(&folder, &entries, &platform) {
                    Ok(()) => fitting.push(platform),
                    Err(error @ NativeError::Foreign { .. }) => {
                        left_out.push((vec![platform], error.into()));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !fitting.is_empty() {
                everywhere = fits_everywhere(&folder, &entries, lock)?;
                trees.push(Tree {
                    folder,
                    platforms: fitting,
                });
            }
        }
        for (platforms, why) in &left_out {
            let platforms: Platforms = platforms.iter().cloned().collect();
            tracing::warn!(%platforms, why = chain(why), "the package is not for these platforms");
        }
        match left_out.into_iter().next() {
            Some((_, why)) if trees.is_empty() => Err(why),
            _ => Ok(Planted {
                trees,
                bound: !everywhere,
            }),
        }
    }

    /// Writes down what the registry says of the package's signatures.
    async fn keep_evidence(
        &self,
        client: &RegistryClient,
        inputs: &Inputs,
    ) -> Result<(), PackError> {
        let subject = Subject {
            package: inputs.package.clone(),
            version: inputs.version.clone(),
            integrity: inputs.integrity.clone(),
            source_digest: None,
        };
        let evidence = evidence::npm::of_npm(client, subject).await?;
        self.write(&self.evidence(), &evidence.to_bytes()?)
    }

    /// Lays a plugin of one file out in the work folder, as [`Self::fetch`] does a package.
    ///
    /// # Errors
    /// When its plugin manifest lacks what the layout needs.
    pub fn lay_out(&self, inline: &Inline, platforms: &Platforms) -> Result<Fetched, PackError> {
        let tree = self.tree();
        let lock = single_file::lay_out(inline, &tree)?;
        normalise::normalise(&tree)?;
        let package = inline.package().map_err(SingleFileError::from)?;
        let version = inline.version().map_err(SingleFileError::from)?;
        let inputs = Inputs {
            registry: CONFIG_MAP.into(),
            package: package.into(),
            version: version.into(),
            integrity: lock.integrity(package).unwrap_or_default().into(),
            platforms: platforms.clone(),
            owner: None,
        };
        // Its one file and its lock are the same everywhere.
        let planted = Planted {
            trees: vec![Tree {
                folder: tree,
                platforms: platforms.iter().cloned().collect(),
            }],
            bound: false,
        };
        self.keep(inputs, &lock, planted, (Origin::Given, None))
    }

    /// Writes down what the steps after this need to know.
    fn keep(
        &self,
        inputs: Inputs,
        lock: &Lock,
        Planted { trees, bound }: Planted,
        (lock_origin, relock): (Origin, Option<&str>),
    ) -> Result<Fetched, PackError> {
        self.write(&self.lock(), lock.bytes())?;
        let fetched = Fetched {
            integrity: inputs.integrity.clone(),
            lock_digest: lock.digest(),
            packages: lock.len(),
        };
        let state = State {
            inputs,
            lock_digest: lock.digest(),
            lock_origin,
            relock: relock.map(str::to_owned),
            trees,
            bound,
        };
        self.write(&self.state(), &canonical::readable(&json!(state)))?;
        Ok(fetched)
    }

    /// Evaluates and checks the manifest of the fetched package, in each of its trees. Addons
    /// are never loaded, so this machine's CPU may be another than a tree's.
    ///
    /// # Errors
    /// When there is none, it breaks a rule, or trees have different ones.
    pub fn evaluate(&self, evaluator: &Evaluator) -> Result<Evaluated, PackError> {
        let state: State = self.read(&self.state())?;
        tracing::info!(
            package = state.inputs.package,
            "evaluating the plugin manifest"
        );
        let mut evaluated: Option<(&Platform, Value)> = None;
        for tree in &state.trees {
            let manifest = evaluator.evaluate(&tree.folder, &state.inputs.package)?;
            let platform = tree.platforms.first();
            let platform = platform.ok_or_else(|| work_error(&tree.folder, "it is for nobody"))?;
            match &evaluated {
                Some((first, before)) if *before != manifest => {
                    return Err(PackError::Manifests {
                        platforms: [*first, platform].into_iter().cloned().collect(),
                    });
                }
                Some(_) => {}
                None => evaluated = Some((platform, manifest)),
            }
        }
        let (_, manifest) = evaluated.ok_or_else(|| work_error(&self.state(), "it has no tree"))?;
        let bytes = canonical::compact(&manifest);
        self.write(&self.manifest(), &bytes)?;
        let text = |field: &str| manifest[field].as_str().unwrap_or_default().to_owned();
        Ok(Evaluated {
            plugin_id: text("id"),
            plugin_version: text("version"),
            manifest_digest: Digest::of(&bytes),
        })
    }

    /// Keeps in the store the tarballs that `fetch` had to download.
    ///
    /// # Errors
    /// When `fetch` did not end well, or the store fails.
    pub async fn keep_tarballs(&self, store: &StoreClient) -> Result<(), PackError> {
        let State { inputs, .. } = self.read(&self.state())?;
        let lock = self.read_bytes(&self.lock())?;
        let lock = Lock::parse(&lock, &inputs.package, &inputs.version)?;
        let owner = inputs.owner.as_deref();
        tarballs::keep(store, owner, &Npm::cache(&self.folder), &lock).await?;
        Ok(())
    }

    /// Puts the image of a fetched and evaluated package together, or its images and an index
    /// of them where it is bound to platforms.
    ///
    /// # Errors
    /// When a step before did not end well or the tree is not as it left it.
    pub fn assemble(&self) -> Result<Assembled, PackError> {
        let state: State = self.read(&self.state())?;
        let lock = self.read_bytes(&self.lock())?;
        let manifest: Value = self.read(&self.manifest())?;
        let mut images = BTreeMap::new();
        let mut markers = BTreeMap::new();
        for tree in &state.trees {
            let (marker, layers) = build_layers(&state, &tree.folder, &lock, &manifest)?;
            for platform in &tree.platforms {
                let image = build_image(&state, platform, &marker, layers.clone());
                images.insert(platform.clone(), image);
                markers.insert(platform.clone(), marker.clone());
            }
        }
        let any = images.values().next().cloned();
        let (packed, marker) = match (state.bound, any, markers.values().next()) {
            (false, Some(image), Some(marker)) => (Packed::Image(image), marker.clone()),
            _ => {
                let named = markers.iter().map(|(one, marker)| (one, marker.as_str()));
                let marker = marker::join(named);
                let annotations = annotations_of(&state, &marker);
                let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
                (Packed::index(images, annotations.into()), marker)
            }
        };
        let referrers = self.attach(&state, &packed, &lock)?;
        Ok(Assembled {
            packed,
            referrers,
            marker,
            state,
            lock,
        })
    }

    /// What goes with the artifact: bill of materials, provenance and lock.
    fn attach(
        &self,
        state: &State,
        packed: &Packed,
        lock: &[u8],
    ) -> Result<Vec<Referrer>, PackError> {
        let State {
            inputs,
            lock_digest,
            trees,
            bound,
            ..
        } = state;
        let Inputs {
            package, version, ..
        } = inputs;
        let digest = packed.digest();
        let parsed = Lock::parse(lock, package, version)?;
        let trees = trees.iter().map(|Tree { folder, platforms }| sbom::Tree {
            platforms: platforms.iter().filter(|_| *bound).cloned().collect(),
            folder: folder.clone(),
        });
        let trees: Vec<_> = trees.collect();
        let sbom = sbom::build(&digest, package, version, &parsed, &trees)?;
        let contents = [
            (Kind::Sbom, sbom::bytes(&sbom)),
            (
                Kind::Provenance,
                provenance::build(&digest, inputs, lock_digest),
            ),
            (Kind::Lock, lock.to_vec()),
        ];
        let attach =
            |(kind, content): (Kind, Vec<u8>)| kind.attach(packed.descriptor(), content.into());
        let evidence = match self.evidence().is_file() {
            true => Some((Kind::Evidence, self.read_bytes(&self.evidence())?)),
            false => None,
        };
        Ok(contents.into_iter().chain(evidence).map(attach).collect())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), PackError> {
        fs::write(path, content).map_err(|e| work_error(path, e))
    }

    fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, PackError> {
        fs::read(path).map_err(|e| work_error(path, e))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<T, PackError> {
        serde_json::from_slice(&self.read_bytes(path)?).map_err(|e| work_error(path, e))
    }
}

fn work_error(path: &Path, why: impl std::fmt::Display) -> PackError {
    PackError::Work {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

async fn choose_lock(
    package: &Package<'_>,
    inputs: &Inputs,
    (npm, peers): (&Npm<'_>, Vec<MissingPeer>),
    store: Option<(&StoreClient, &str)>,
) -> Result<(Lock, Origin), PackError> {
    let Package {
        name,
        version,
        lock,
        relock,
        ..
    } = *package;
    if let Some(text) = lock {
        return Ok((Lock::parse(text.as_bytes(), name, version)?, Origin::Given));
    }
    if let Some((store, repository)) = store
        && let Some(text) = recorded_lock(store, repository, &inputs.lock_tag(relock)).await?
    {
        return Ok((Lock::parse(&text, name, version)?, Origin::Recorded));
    }
    tracing::info!("no lock is recorded: resolving a new one");
    Ok((npm.resolve(name, version, peers).await?, Origin::Resolved))
}

/// Whether npm makes the tree alike for every platform of this release, and it has addons for
/// all of them.
fn fits_everywhere(tree: &Path, entries: &[Entry], lock: &Lock) -> Result<bool, NativeError> {
    let supported = Platforms::supported();
    if lock.variants(&supported).len() > 1 {
        return Ok(false);
    }
    for platform in supported.iter() {
        match native::check(tree, entries, platform) {
            Ok(()) => {}
            Err(NativeError::Foreign { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The marker of a tree, and the layers of its image.
fn build_layers(
    state: &State,
    tree: &Path,
    lock: &[u8],
    manifest: &Value,
) -> Result<(String, [Layer; 2]), PackError> {
    let entries = tree::list(tree, tree::LIMITS)?;
    let marker = tree::marker(&entries);
    let facts = facts_layer(&state.inputs, &marker, lock, manifest)?;
    let tree = tree_layer(tree, &entries)?;
    let found = tree.content().len() as u64;
    if found > limits::LAYER {
        return Err(PackError::Layer { found });
    }
    Ok((marker, [facts, tree]))
}

/// The image of a tree. One that runs everywhere says so as all images did before there were
/// indexes: by the CPU that this release packs for first.
fn build_image(state: &State, platform: &Platform, marker: &str, layers: [Layer; 2]) -> Image {
    let any = Platform::default();
    let platform = if state.bound { platform } else { &any };
    let mut image = ImageBuilder::new();
    if let Some(architecture) = platform.oci_architecture() {
        image = image.architecture(architecture);
    }
    let named = annotations_of(state, marker).into_iter();
    let image = named.fold(image, |image, (name, value)| image.annotation(name, value));
    layers.into_iter().fold(image, ImageBuilder::layer).build()
}

async fn recorded_lock(
    store: &StoreClient,
    repository: &str,
    tag: &str,
) -> Result<Option<bytes::Bytes>, StoreError> {
    store
        .artifact(repository, LOCK_MEDIA_TYPE, tag, limits::LOCK)
        .await
}

fn check_served(
    package: &Package<'_>,
    served: &str,
    wanted: Option<&str>,
) -> Result<(), PackError> {
    match wanted {
        Some(wanted) if lock::sha512(wanted) != lock::sha512(served) => Err(PackError::Served {
            package: format!("{}@{}", package.name, package.version),
            served: served.to_owned(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_integrity(inputs: &Inputs, lock: &Lock) -> Result<(), PackError> {
    let locked = lock.integrity(&inputs.package).unwrap_or_default();
    if lock::sha512(locked) == lock::sha512(&inputs.integrity) {
        return Ok(());
    }
    Err(PackError::Integrity {
        package: format!("{}@{}", inputs.package, inputs.version),
        locked: locked.to_owned(),
        served: inputs.integrity.clone(),
    })
}

fn facts_layer(
    inputs: &Inputs,
    marker: &str,
    lock: &[u8],
    manifest: &Value,
) -> Result<Layer, ImageError> {
    let artifact = canonical::readable(&json!({
        "package": inputs.package,
        "version": inputs.version,
        "packageDir": format!("node_modules/{}", inputs.package),
        "node": toolchain::NODE_VERSION,
        "npm": toolchain::NPM_VERSION,
    }));
    let path = |name: &str| format!("{FACTS}/{name}");
    LayerBuilder::new()
        .bytes(&path("artifact.json"), artifact, 0o644)
        .bytes(&path("marker"), format!("{marker}\n"), 0o644)
        .bytes(&path("package-lock.json"), lock.to_vec(), 0o644)
        .bytes(
            &path("plugin-manifest.json"),
            canonical::compact(manifest),
            0o644,
        )
        .build()
}

fn tree_layer(root: &Path, entries: &[Entry]) -> Result<Layer, ImageError> {
    let layer = entries.iter().fold(
        LayerBuilder::new(),
        |layer, Entry { path, kind }| match kind {
            tree::Kind::Directory => layer.directory(path, kind.mode()),
            tree::Kind::File { .. } => layer.file(path, root.join(path), kind.mode()),
        },
    );
    layer.build()
}

fn annotations_of(state: &State, marker: &str) -> [(&'static str, String); 7] {
    let State {
        inputs,
        lock_digest,
        ..
    } = state;
    [
        ("org.opencontainers.image.title", inputs.package.clone()),
        (annotations::VERSION, inputs.version.clone()),
        (annotations::PACKAGE, inputs.package.clone()),
        (annotations::MARKER, marker.to_owned()),
        (annotations::LOCK_DIGEST, lock_digest.to_string()),
        (
            "ing.paperclip.plugins.node",
            toolchain::NODE_VERSION.to_owned(),
        ),
        (
            "ing.paperclip.plugins.npm",
            toolchain::NPM_VERSION.to_owned(),
        ),
    ]
}

/// An artifact that is ready to be pushed.
#[derive(Clone, Debug)]
pub struct Assembled {
    packed: Packed,
    referrers: Vec<Referrer>,
    marker: String,
    state: State,
    lock: Vec<u8>,
}

impl Assembled {
    /// What it was packed from.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.state.inputs
    }

    /// The image, or the index and its images.
    #[must_use]
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// What is attached to it.
    #[must_use]
    pub fn referrers(&self) -> &[Referrer] {
        &self.referrers
    }

    /// The version as a tag: it holds no `+`.
    #[must_use]
    pub fn version_tag(&self) -> String {
        self.state.inputs.version.replace('+', "_")
    }

    /// Content of its marker file; of an index that of each platform.
    #[must_use]
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Digest of the lock it was installed from.
    #[must_use]
    pub fn lock_digest(&self) -> &Digest {
        &self.state.lock_digest
    }

    /// The lock it was installed from.
    #[must_use]
    pub fn lock(&self) -> &[u8] {
        &self.lock
    }

    /// Pushes the image, what is attached to it, the lock if a new one was resolved, and
    /// last the tags: of the inputs, and `request_tag`. So whoever finds a tag finds the
    /// rest, and a second run adds what a first one that was cut off left out. No tag is
    /// pushed when another packing recorded another lock since.
    ///
    /// # Errors
    /// When the store fails, or holds another lock for these inputs.
    pub async fn push(
        &self,
        store: &StoreClient,
        repository: &str,
        request_tag: &str,
    ) -> Result<Pushed, PackError> {
        let State {
            inputs,
            lock_digest,
            lock_origin,
            relock,
            ..
        } = &self.state;
        let lock_tag = inputs.lock_tag(relock.as_deref());
        let is_new = *lock_origin == Origin::Resolved;
        if is_new {
            self.check_recorded(store, repository, &lock_tag).await?;
        }
        let digest = store.push_packed(repository, &self.packed).await?;
        referrers::push(store, repository, &digest, &self.referrers).await?;
        if is_new && recorded_lock(store, repository, &lock_tag).await?.is_none() {
            let lock = self.lock.clone().into();
            store
                .push_artifact(repository, LOCK_MEDIA_TYPE, lock, &lock_tag)
                .await?;
            self.check_recorded(store, repository, &lock_tag).await?;
        }
        for tag in [inputs.image_tag(lock_digest).as_str(), request_tag] {
            store.tag_packed(repository, &self.packed, tag).await?;
        }
        tracing::info!(%digest, repository, "artifact pushed");
        Ok(Pushed {
            repository: repository.to_owned(),
            digest,
            marker: self.marker.clone(),
            size_bytes: self.packed.size(),
            lock_digest: lock_digest.clone(),
            platforms: self.packed.platforms(),
        })
    }

    async fn check_recorded(
        &self,
        store: &StoreClient,
        repository: &str,
        lock_tag: &str,
    ) -> Result<(), PackError> {
        let ours = &self.state.lock_digest;
        match recorded_lock(store, repository, lock_tag).await? {
            Some(text) if Digest::of(&text) != *ours => Err(PackError::LockRecorded {
                recorded: Digest::of(&text),
                ours: ours.clone(),
            }),
            _ => Ok(()),
        }
    }
}
