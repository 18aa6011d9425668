//! Step one: the package and its dependencies, brought into the work folder.

use paperclip_artifact::inputs::{CONFIG_MAP, Inputs};
use paperclip_artifact::integrity;
use paperclip_artifact::lock::Lock;
use paperclip_artifact::trust::Subject;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_oci::client::StoreClient;
use paperclip_packing_api::report::Fetched;
use paperclip_packing_api::single_file::SingleFile;

use crate::evidence;
use crate::npm::install::Npm;
use crate::npm::lookup::{self, Found};
use crate::npm::normalise;
use crate::npm::registry::{Registry, RegistryClient};
use crate::npm::tarballs::{self, Sources};
use crate::npm::toolchain::Toolchain;
use crate::source::single_file::{self, LayOutError};
use crate::source::tarball::PackageTarball;
use crate::steps::error::PackError;
use crate::steps::lock::choose_lock;
use crate::steps::package::{Package, RemoteTarball, Terms};
use crate::steps::work::{LockOrigin, Planted, Tree, Work};

impl Work {
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
        let tarball = match terms.tarball {
            Some(tarball) => {
                let integrity = terms.integrity.unwrap_or_default();
                Some(self.download_package(tarball, integrity).await?)
            }
            None => None,
        };
        if let Some(tarball) = &tarball {
            client = tarball.add_to(client);
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
            tarball: tarball.as_ref(),
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

    pub(super) async fn download_package(
        &self,
        RemoteTarball { url, access }: RemoteTarball<'_>,
        integrity: &str,
    ) -> Result<PackageTarball, PackError> {
        let client = RegistryClient::new(access)?;
        tracing::info!("downloading the tarball of the package");
        Ok(PackageTarball::download(&client, url, integrity, &self.folder).await?)
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
    pub fn lay_out(
        &self,
        single_file: &SingleFile,
        platforms: &Platforms,
    ) -> Result<Fetched, PackError> {
        let tree = self.tree();
        let lock = single_file::lay_out(single_file, &tree)?;
        normalise::normalise(&tree)?;
        let package = single_file.package().map_err(LayOutError::from)?;
        let version = single_file.version().map_err(LayOutError::from)?;
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
        self.keep(inputs, &lock, planted, (LockOrigin::Request, None))
    }
}

fn check_served(
    package: &Package<'_>,
    served: &str,
    wanted: Option<&str>,
) -> Result<(), PackError> {
    match wanted {
        Some(wanted) if integrity::sha512(wanted) != integrity::sha512(served) => {
            Err(PackError::Served {
                package: format!("{}@{}", package.name, package.version),
                served: served.to_owned(),
                wanted: wanted.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

fn check_integrity(inputs: &Inputs, lock: &Lock) -> Result<(), PackError> {
    let locked = lock.integrity(&inputs.package).unwrap_or_default();
    if integrity::sha512(locked) == integrity::sha512(&inputs.integrity) {
        return Ok(());
    }
    Err(PackError::Integrity {
        package: format!("{}@{}", inputs.package, inputs.version),
        locked: locked.to_owned(),
        served: inputs.integrity.clone(),
    })
}
