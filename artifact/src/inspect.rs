//! What an artifact is, told without pulling its tree: of its layers only the small first
//! one, which holds the facts, is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use paperclip_artifact_format::platform::Platform;
use paperclip_artifact_format::{annotations, names};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::{Config, Descriptor, Manifest};
use paperclip_oci::index::Top;
use paperclip_oci::referrers::Listed;
use paperclip_oci::source::{Source, SourceError};
use serde::Serialize;
use serde_json::Value;

use crate::attachment::Kind;
use crate::limits;
use crate::pull::{self, PullError};

/// Largest config that is read.
const MAX_CONFIG: u64 = 1024 * 1024;
/// Largest content of a referrer that is read into memory.
pub const MAX_CONTENT: u64 = 64 * 1024 * 1024;

/// Why an artifact could not be read, or does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Bytes could not be had, or are others than their digest says.
    #[error("cannot read {what} of artifact {artifact}")]
    Read {
        /// Which part.
        what: String,
        /// The artifact.
        artifact: Digest,
        /// The cause.
        source: Box<SourceError>,
    },
    /// A part is whole and breaks a rule.
    #[error("artifact {artifact} is refused: {what}: {why}")]
    Refused {
        /// Which part.
        what: String,
        /// The artifact.
        artifact: Digest,
        /// The finding, and the rule.
        why: String,
    },
    /// A referrer is not there.
    #[error("artifact {artifact} has no {}: wanted a referrer of type {}, made by a packer of this project", kind.name(), kind.media_type())]
    Missing {
        /// The artifact.
        artifact: Digest,
        /// What is missing.
        kind: Kind,
    },
    /// The tree could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] PullError),
}

/// An artifact whose manifests and configs were read and have the shape of one.
#[derive(Clone, Debug)]
pub struct Opened<'a> {
    source: &'a Source,
    descriptor: Descriptor,
    annotations: BTreeMap<String, String>,
    images: Vec<OpenedImage>,
}

/// An image of an artifact.
#[derive(Clone, Debug)]
pub struct OpenedImage {
    /// Where it runs, by the index above it; without one on every platform.
    pub platform: Option<Platform>,
    /// Its digest.
    pub digest: Digest,
    /// Its OCI manifest.
    pub manifest: Manifest,
    /// Its OCI config.
    pub config: Config,
}

impl OpenedImage {
    /// What a person calls a part of it.
    #[must_use]
    pub fn named(&self, part: &str) -> String {
        match &self.platform {
            Some(platform) => format!("{part} of {platform}"),
            None => part.to_owned(),
        }
    }
}

/// The facts that an artifact carries about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Name of the package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The plugin manifest.
    pub plugin_manifest: Value,
    /// Text of the lock.
    pub lock: Vec<u8>,
}

impl<'a> Opened<'a> {
    /// Reads manifest and config of an artifact, of each image if it is an index.
    ///
    /// # Errors
    /// When they cannot be had, or are not those of a plugin artifact.
    pub async fn open(source: &'a Source, digest: &Digest) -> Result<Self, InspectError> {
        const TOP: &str = "the OCI manifest";
        let bytes = source.manifest(digest).await;
        let bytes = bytes.map_err(|source| InspectError::Read {
            what: TOP.into(),
            artifact: digest.clone(),
            source: Box::new(source),
        })?;
        let refused = |why: String| InspectError::Refused {
            what: TOP.into(),
            artifact: digest.clone(),
            why,
        };
        let top = Top::parse(&bytes).map_err(refused)?;
        let mut opened = Self {
            source,
            descriptor: Descriptor::of(top.media_type(), &bytes),
            annotations: top.annotations().clone(),
            images: Vec::new(),
        };
        match &top {
            Top::Image(manifest) => {
                let image = opened.open_image(None, digest.clone(), manifest.clone());
                opened.images = vec![image.await?];
            }
            Top::Index(index) => {
                for (platform, child) in index.images().map_err(refused)? {
                    let image = opened.open_child(platform, child).await?;
                    opened.images.push(image);
                }
            }
        }
        Ok(opened)
    }

    async fn open_child(
        &self,
        platform: Platform,
        child: &Descriptor,
    ) -> Result<OpenedImage, InspectError> {
        let what = format!("the OCI manifest of {platform}");
        let bytes = self.source.manifest(&child.digest).await;
        let bytes = bytes.map_err(|e| self.read(&what, e))?;
        if bytes.len() as u64 != child.size {
            let why = format!("it has {} bytes, wanted {}", bytes.len(), child.size);
            return Err(self.refused(&what, why));
        }
        match Top::parse(&bytes).map_err(|why| self.refused(&what, why))? {
            Top::Image(manifest) => {
                self.open_image(Some(platform), child.digest.clone(), manifest)
                    .await
            }
            Top::Index(_) => Err(self.refused(&what, "it is an index, wanted an image")),
        }
    }

    async fn open_image(
        &self,
        platform: Option<Platform>,
        digest: Digest,
        manifest: Manifest,
    ) -> Result<OpenedImage, InspectError> {
        let named = |part: &str| match &platform {
            Some(platform) => format!("{part} of {platform}"),
            None => part.to_owned(),
        };
        let what = named("the OCI manifest");
        pull::check_shape(&manifest).map_err(|why| self.refused(&what, why))?;
        let what = named("the OCI config");
        let config = self.source.blob(&manifest.config, MAX_CONFIG).await;
        let config = config.map_err(|e| self.read(&what, e))?;
        let config: Config =
            serde_json::from_slice(&config).map_err(|e| self.refused(&what, e.to_string()))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let why = "it names another number of layers than the manifest";
            return Err(self.refused(&what, why));
        }
        let stated = Platform::of_oci(&config.os, &config.architecture);
        if let Some(wanted) = &platform
            && stated.as_ref() != Some(wanted)
        {
            let Config {
                os, architecture, ..
            } = &config;
            let why = format!("it is for {os:.32}/{architecture:.32}, wanted {wanted}");
            return Err(self.refused(&what, why));
        }
        Ok(OpenedImage {
            platform,
            digest,
            manifest,
            config,
        })
    }

    /// Where the artifact was read from.
    #[must_use]
    pub fn source(&self) -> &'a Source {
        self.source
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// The artifact as a referrer names it.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Its images, in order of their platforms.
    #[must_use]
    pub fn images(&self) -> &[OpenedImage] {
        &self.images
    }

    /// The platforms it is for; none where it runs on every one.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        let named = self
            .images
            .iter()
            .filter_map(|image| image.platform.clone());
        named.collect()
    }

    /// Bytes of its layers as stored.
    #[must_use]
    pub fn size(&self) -> u64 {
        let layers = self.images.iter().flat_map(|image| &image.manifest.layers);
        layers.map(|layer| layer.size).sum()
    }

    /// An annotation that every artifact has.
    ///
    /// # Errors
    /// When this one has not.
    pub fn annotation(&self, name: &str) -> Result<&str, InspectError> {
        let found = self.annotations.get(name);
        found
            .map(String::as_str)
            .ok_or_else(|| self.refused("the OCI manifest", format!("it has no {name}")))
    }

    /// Reads the facts, from the small first layer. Every image of a sound artifact has the
    /// same ones.
    ///
    /// # Errors
    /// When the layer cannot be had or does not hold them.
    pub async fn facts(&self) -> Result<Facts, InspectError> {
        // An artifact that was opened has an image.
        self.facts_of(&self.images[0]).await
    }

    /// Reads the facts of one image.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub async fn facts_of(&self, image: &OpenedImage) -> Result<Facts, InspectError> {
        let what = &*image.named("the facts layer");
        let layer = &image.manifest.layers[0];
        let blob = self.source.blob(layer, limits::FACTS).await;
        let blob = blob.map_err(|e| self.read(what, e))?;
        let mut files = pull::read_facts(&blob, &image.config.rootfs.diff_ids[0])
            .map_err(|why| self.refused(what, why))?;
        let mut take = |name: &str| {
            let why = || format!("it holds no {name}");
            files.remove(name).ok_or_else(|| self.refused(what, why()))
        };
        let artifact = self.json(names::ARTIFACT, &take(names::ARTIFACT)?)?;
        let plugin_manifest = self.json(names::PLUGIN_MANIFEST, &take(names::PLUGIN_MANIFEST)?)?;
        let lock = take(names::LOCK)?;
        let text = |field: &str| artifact[field].as_str().unwrap_or_default().to_owned();
        Ok(Facts {
            package: text("package"),
            version: text("version"),
            plugin_manifest,
            lock,
        })
    }

    fn json(&self, name: &str, text: &[u8]) -> Result<Value, InspectError> {
        serde_json::from_slice(text).map_err(|e| self.refused(name, e.to_string()))
    }

    /// What refers to the artifact.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub async fn referrers(&self) -> Result<Vec<Listed>, InspectError> {
        let found = self.source.referrers(self.digest()).await;
        found.map_err(|e| self.read("the referrers", e))
    }

    /// Reads the manifest of a referrer.
    ///
    /// # Errors
    /// When it cannot be had, or is not about this artifact.
    pub async fn referrer(&self, listed: &Listed) -> Result<Manifest, InspectError> {
        let what = format!("referrer {}", listed.descriptor.digest);
        let bytes = self.source.manifest(&listed.descriptor.digest).await;
        let bytes = bytes.map_err(|e| self.read(&what, e))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| self.refused(&what, e.to_string()))?;
        let subject = manifest.subject.as_ref();
        let is_ours = subject.is_some_and(|one| {
            one.digest == self.descriptor.digest && one.size == self.descriptor.size
        });
        if !is_ours {
            let found = subject.map_or("nothing", |subject| subject.digest.as_str());
            let why = format!("its subject is {found}, wanted {}", self.digest());
            return Err(self.refused(&what, why));
        }
        Ok(manifest)
    }

    /// Reads what a packer attached to the artifact; of several the first.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub async fn attached(&self, wanted: Kind) -> Result<Bytes, InspectError> {
        for listed in self.referrers().await? {
            if listed.artifact_type != wanted.media_type() {
                continue;
            }
            let manifest = self.referrer(&listed).await?;
            if kind(&manifest) == Some(wanted) {
                return self.content(&listed, &manifest).await;
            }
        }
        Err(InspectError::Missing {
            artifact: self.digest().clone(),
            kind: wanted,
        })
    }

    /// Reads the one blob of a referrer of ours.
    ///
    /// # Errors
    /// When it has another number of blobs, or the blob cannot be had.
    pub async fn content(
        &self,
        listed: &Listed,
        manifest: &Manifest,
    ) -> Result<Bytes, InspectError> {
        let what = format!("referrer {}", listed.descriptor.digest);
        let [blob] = &manifest.layers[..] else {
            let why = format!("it has {} blobs, wanted one", manifest.layers.len());
            return Err(self.refused(&what, why));
        };
        let content = self.source.blob(blob, MAX_CONTENT).await;
        content.map_err(|e| self.read(&format!("the content of {what}"), e))
    }

    /// The error that a part of the artifact could not be had.
    #[must_use]
    pub fn read(&self, what: &str, source: SourceError) -> InspectError {
        InspectError::Read {
            what: what.to_owned(),
            artifact: self.digest().clone(),
            source: Box::new(source),
        }
    }

    /// The error that a part of the artifact breaks a rule.
    #[must_use]
    pub fn refused(&self, what: &str, why: impl Into<String>) -> InspectError {
        InspectError::Refused {
            what: what.to_owned(),
            artifact: self.digest().clone(),
            why: why.into(),
        }
    }
}

/// What a referrer of ours is.
#[must_use]
pub fn kind(manifest: &Manifest) -> Option<Kind> {
    let artifact_type = manifest.artifact_type.as_deref().unwrap_or_default();
    Kind::of(artifact_type, &manifest.annotations)
}

/// What a person wants to know of an artifact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Its digest.
    pub digest: Digest,
    /// Bytes of its layers, as stored.
    pub size_bytes: u64,
    /// Where it runs, as in `linux/amd64`; `any` where its tree is the same on every CPU.
    pub platforms: Vec<String>,
    /// Annotations of the OCI manifest, or of the index.
    pub annotations: BTreeMap<String, String>,
    /// Its images: one, or with an index one a platform.
    pub images: Vec<ImageSummary>,
    /// What the plugin declares.
    pub plugin: PluginSummary,
    /// What refers to it.
    pub referrers: Vec<Listed>,
}

/// An image of an artifact, in short.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// Its digest.
    pub digest: Digest,
    /// Where it runs.
    pub platform: String,
    /// The layers: facts, tree.
    pub layers: Vec<Descriptor>,
}

/// The word for an artifact that runs on every platform of this release.
pub const ANY: &str = "any";

/// What a plugin declares, in short.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginSummary {
    /// Id of the plugin.
    pub id: String,
    /// Version in its manifest.
    pub version: String,
    /// Name for people.
    pub display_name: String,
    /// What it may do.
    pub capabilities: Vec<String>,
    /// Names of its tools.
    pub tools: Vec<String>,
    /// Its jobs, each with its schedule if it has one.
    pub jobs: Vec<Job>,
    /// Keys of its webhooks.
    pub webhooks: Vec<String>,
}

/// A job that a plugin declares.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Job {
    /// Its key.
    pub key: String,
    /// When it runs, as cron has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

impl PluginSummary {
    fn of(manifest: &Value) -> Self {
        let text = |field: &str| manifest[field].as_str().unwrap_or_default().to_owned();
        let items = |field: &str| manifest[field].as_array().cloned().unwrap_or_default();
        let keys = |field: &str, key: &str| {
            let found = items(field);
            let keys = found.iter().filter_map(|one| one[key].as_str());
            keys.map(str::to_owned).collect()
        };
        let jobs = items("jobs").into_iter().map(|job| Job {
            key: job["jobKey"].as_str().unwrap_or_default().to_owned(),
            schedule: job["schedule"].as_str().map(str::to_owned),
        });
        let capabilities = items("capabilities").into_iter();
        Self {
            id: text("id"),
            version: text("version"),
            display_name: text("displayName"),
            capabilities: capabilities
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect(),
            tools: keys("tools", "name"),
            jobs: jobs.collect(),
            webhooks: keys("webhooks", "endpointKey"),
        }
    }
}

/// Tells what an artifact is.
///
/// # Errors
/// When a part that is read cannot be had or is not what its digest says.
pub async fn inspect(opened: &Opened<'_>) -> Result<Inspection, InspectError> {
    let facts = opened.facts().await?;
    opened.annotation(annotations::MARKER)?;
    let images = opened.images.iter().map(|image| ImageSummary {
        digest: image.digest.clone(),
        platform: match &image.platform {
            Some(platform) => platform.to_string(),
            None => ANY.to_owned(),
        },
        layers: image.manifest.layers.clone(),
    });
    let images: Vec<_> = images.collect();
    Ok(Inspection {
        digest: opened.digest().clone(),
        size_bytes: opened.size(),
        platforms: images.iter().map(|image| image.platform.clone()).collect(),
        annotations: opened.annotations.clone(),
        images,
        plugin: PluginSummary::of(&facts.plugin_manifest),
        referrers: opened.referrers().await?,
    })
}
