//! Verifies an artifact as a whole: every byte against its digest, and every part against
//! the others.
//!
//! The chain of digests says that nothing changed since it was packed. The rest says that
//! what was packed belongs together: the tree is what the lock says, the bill of materials
//! lists it, the plugin manifest keeps Paperclip's rules, and the provenance is this
//! artifact's. Referrers that others made are checked byte for byte and not understood. Of an
//! index each image is checked so, and that it fits its platform; what refers to the artifact
//! refers to the index.

use std::fs;
use std::path::Path;

use paperclip_artifact_format::platform::Platforms;
use paperclip_artifact_format::{annotations, marker};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::Manifest;
use paperclip_oci::referrers::Listed;
use paperclip_oci::source::Source;
use serde::Serialize;

use crate::attachment::Kind;
use crate::inspect::{Facts, InspectError, Opened, OpenedImage, kind};
use crate::installed;
use crate::limits;
use crate::lock::Lock;
use crate::native;
use crate::provenance;
use crate::pull::{self, PullError};
use crate::sbom;
use crate::tree;
use crate::trust::{Evidence, Subject, verification};

/// What held, in the order in which it was looked at.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The artifact.
    pub digest: Digest,
    /// Each part and what was shown of it.
    pub checks: Vec<Check>,
}

/// One part of an artifact that is as it should be.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Check {
    /// The part.
    pub what: String,
    /// What was shown.
    pub shown: String,
}

impl Verified {
    fn add(&mut self, what: impl Into<String>, shown: impl Into<String>) {
        self.checks.push(Check {
            what: what.into(),
            shown: shown.into(),
        });
    }
}

/// Verifies an artifact; its trees are unpacked in `work`, an empty folder.
///
/// # Errors
/// Names the first part that cannot be had, differs from its digest, or contradicts another.
pub async fn verify(
    source: &Source,
    digest: &Digest,
    work: &Path,
) -> Result<Verified, InspectError> {
    let opened = Opened::open(source, digest).await?;
    let mut verified = Verified {
        digest: digest.clone(),
        checks: Vec::new(),
    };
    verified.add("OCI manifest and config", "bytes match their digests");
    let facts = opened.facts().await?;
    let mut trees = Vec::new();
    let mut markers = Vec::new();
    for image in opened.images() {
        let found = verify_image(&opened, image, &facts, work, &mut verified).await?;
        markers.push(found.marker);
        trees.push(found.tree);
    }
    check_form(&opened, &trees, &markers)?;
    let lock = parse_lock(&opened, &facts)?;
    let referrers = Referrers {
        opened: &opened,
        facts: &facts,
        lock: &lock,
        trees: &trees,
    };
    referrers.verify(work, &mut verified).await?;
    Ok(verified)
}

/// An image that agrees with itself.
struct Found {
    tree: sbom::Tree,
    marker: String,
}

async fn verify_image(
    opened: &Opened<'_>,
    image: &OpenedImage,
    facts: &Facts,
    work: &Path,
    verified: &mut Verified,
) -> Result<Found, InspectError> {
    let folder = match &image.platform {
        Some(platform) => work.join(format!("tree-{}", platform.cpu)),
        None => work.join("tree"),
    };
    let entries = unpack(opened, image, work, &folder).await?;
    let marker = annotation(opened, image, annotations::MARKER)?;
    let shown = "bytes match their digests, packed and unpacked";
    verified.add(image.named("layers"), shown);
    let shown = format!("{entries} files and folders with marker {marker}");
    verified.add(image.named("tree"), shown);
    let ours = opened.facts_of(image).await?;
    if ours != *facts {
        let why = "they are not those of the images before it: an artifact has one plugin manifest and one lock";
        return Err(opened.refused(&image.named("the facts"), why));
    }
    let lock = check_facts(opened, image, &ours)?;
    verified.add(
        image.named("plugin manifest"),
        "keeps every rule of Paperclip",
    );
    verified.add(image.named("lock"), format!("digest {}", lock.digest()));
    let refused = |why: String| opened.refused(&image.named("the tree"), why);
    installed::compare(&folder, &lock).map_err(|e| refused(e.to_string()))?;
    check_fit(image, &folder, &lock).map_err(refused)?;
    let shown = match &image.platform {
        Some(platform) => format!("the tree holds those of the lock for {platform}, and no others"),
        None => format!(
            "the tree holds the {} of the lock, and no others",
            lock.len()
        ),
    };
    verified.add(image.named("packages"), shown);
    Ok(Found {
        marker: marker.to_owned(),
        tree: sbom::Tree {
            platforms: image.platform.iter().cloned().collect(),
            folder,
        },
    })
}

/// Checks that a tree fits the platform of its image. One that names none must fit all.
fn check_fit(image: &OpenedImage, folder: &Path, lock: &Lock) -> Result<(), String> {
    let entries = tree::list(folder, tree::LIMITS).map_err(|e| e.to_string())?;
    let fits = |platform| native::check(folder, &entries, platform).map_err(|e| e.to_string());
    if let Some(platform) = &image.platform {
        fits(platform)?;
        return match lock.foreign(platform, folder) {
            Some(path) => Err(format!("{path} is there, which is not for {platform}")),
            None => Ok(()),
        };
    }
    let supported = Platforms::supported();
    let wanted = "without an index it is to be the same on all of";
    if lock.variants(&supported).len() > 1 {
        let found = "its lock has packages for some platforms alone";
        return Err(format!("{found}, and {wanted} {supported}"));
    }
    for platform in supported.iter() {
        fits(platform).map_err(|why| format!("{why}; {wanted} {supported}"))?;
    }
    Ok(())
}

/// Checks what an index says of its images against them.
fn check_form(
    opened: &Opened<'_>,
    trees: &[sbom::Tree],
    markers: &[String],
) -> Result<(), InspectError> {
    let platforms = trees.iter().flat_map(|tree| &tree.platforms);
    let named = platforms.zip(markers.iter().map(String::as_str));
    let wanted = marker::join(named);
    let stated = opened.annotation(annotations::MARKER)?;
    if opened.platforms().is_empty() || wanted == stated {
        return Ok(());
    }
    let why = format!("its marker is {stated:.300}, and its images have {wanted}");
    Err(opened.refused("the OCI index", why))
}

fn annotation<'a>(
    opened: &Opened<'_>,
    image: &'a OpenedImage,
    name: &str,
) -> Result<&'a str, InspectError> {
    let found = image.manifest.annotations.get(name).map(String::as_str);
    found.ok_or_else(|| {
        opened.refused(
            &image.named("the OCI manifest"),
            format!("it has no {name}"),
        )
    })
}

/// Checks the layers and unpacks them; gives the number of entries of the tree.
async fn unpack(
    opened: &Opened<'_>,
    image: &OpenedImage,
    work: &Path,
    tree: &Path,
) -> Result<usize, InspectError> {
    let failed = |source| PullError::Write {
        path: work.to_owned(),
        source,
    };
    let blobs = work.join("blobs");
    fs::create_dir_all(&blobs).map_err(failed)?;
    fs::create_dir_all(tree).map_err(failed)?;
    let mut layers = Vec::new();
    let diff_ids = &image.config.rootfs.diff_ids;
    for ((layer, diff_id), what) in image
        .manifest
        .layers
        .iter()
        .zip(diff_ids)
        .zip(["the facts layer", "the tree layer"])
    {
        let path = opened
            .source()
            .blob_file(layer, limits::LAYER, &blobs)
            .await;
        let path = path.map_err(|e| opened.read(&image.named(what), e))?;
        layers.push((path, diff_id.clone()));
    }
    let marker = annotation(opened, image, annotations::MARKER)?;
    Ok(pull::unpack(opened.digest(), marker, tree, &layers)?)
}

/// Checks what OCI manifests say of the facts, and the facts themselves.
fn check_facts(
    opened: &Opened<'_>,
    image: &OpenedImage,
    facts: &Facts,
) -> Result<Lock, InspectError> {
    let refused = |what: &str, why: String| opened.refused(&image.named(what), why);
    let named = [
        (annotations::PACKAGE, &facts.package),
        (annotations::VERSION, &facts.version),
    ];
    for (name, fact) in named {
        for annotation in [opened.annotation(name)?, annotation(opened, image, name)?] {
            if annotation != fact {
                let why = format!("{name} is {annotation}, and the artifact itself says {fact}");
                return Err(refused("the OCI manifest", why));
            }
        }
    }
    paperclip_plugin_manifest::validate(&facts.plugin_manifest)
        .map_err(|e| refused("the plugin manifest", e.to_string()))?;
    let lock = parse_lock(opened, facts)?;
    let found = Digest::of(&facts.lock);
    let name = annotations::LOCK_DIGEST;
    for stated in [opened.annotation(name)?, annotation(opened, image, name)?] {
        if found.as_str() != stated || lock.digest() != found {
            let why = format!("its digest is {found}, and the OCI manifest says {stated}");
            return Err(refused("the lock", why));
        }
    }
    Ok(lock)
}

fn parse_lock(opened: &Opened<'_>, facts: &Facts) -> Result<Lock, InspectError> {
    Lock::parse(&facts.lock, &facts.package, &facts.version)
        .map_err(|e| opened.refused("the lock", e.to_string()))
}

/// What the referrers of an artifact are checked against.
struct Referrers<'a> {
    opened: &'a Opened<'a>,
    facts: &'a Facts,
    lock: &'a Lock,
    trees: &'a [sbom::Tree],
}

impl Referrers<'_> {
    /// Checks every referrer, and that there is one of each kind.
    async fn verify(&self, work: &Path, verified: &mut Verified) -> Result<(), InspectError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for listed in self.opened.referrers().await? {
            let manifest = self.opened.referrer(&listed).await?;
            bytes += manifest.layers.iter().map(|blob| blob.size).sum::<u64>();
            if bytes > limits::LAYER {
                let why = format!("more than {} bytes together", limits::LAYER);
                return Err(self.opened.refused("the referrers", why));
            }
            self.check_bytes(&listed, &manifest, work).await?;
            let digest = &listed.descriptor.digest;
            let Some(kind) = kind(&manifest) else {
                let what = format!("{} of others", listed.artifact_type);
                verified.add(what, format!("bytes match their digests ({digest})"));
                continue;
            };
            let content = self.opened.content(&listed, &manifest).await?;
            self.check(kind, &content)
                .map_err(|why| self.opened.refused(kind.name(), why))?;
            verified.add(kind.name(), format!("agrees with the artifact ({digest})"));
            found.push(kind);
        }
        match Kind::ALL.into_iter().find(|kind| !found.contains(kind)) {
            None => Ok(()),
            Some(kind) => Err(InspectError::Missing {
                artifact: self.opened.digest().clone(),
                kind,
            }),
        }
    }

    fn check(&self, kind: Kind, content: &[u8]) -> Result<(), String> {
        let Facts {
            package, version, ..
        } = self.facts;
        let subject = self.opened.digest();
        match kind {
            Kind::Sbom => {
                let wanted = sbom::build(subject, package, version, self.lock, self.trees);
                sbom::check(content, &wanted.map_err(|e| e.to_string())?)
            }
            Kind::Provenance => {
                let facts = provenance::Facts {
                    subject,
                    package,
                    version,
                    integrity: self.lock.integrity(package).unwrap_or_default(),
                    lock_digest: &self.lock.digest(),
                    platforms: &self.opened.platforms(),
                };
                provenance::check(content, &facts)
            }
            Kind::Lock if content == self.lock.bytes() => Ok(()),
            Kind::Evidence => {
                let evidence = Evidence::read(content).map_err(|e| e.to_string())?;
                // A copy is the image that it was copied from.
                let copied = evidence.subject.source_digest.as_ref();
                let subject = Subject {
                    package: package.clone(),
                    version: version.clone(),
                    integrity: self.lock.integrity(package).unwrap_or_default().into(),
                    source_digest: copied.map(|_| subject.clone()),
                };
                evidence.check_subject(&subject).map_err(|e| e.to_string())
            }
            Kind::Verification => verification::check(content, subject),
            Kind::Lock => {
                let (found, wanted) = (Digest::of(content), self.lock.digest());
                Err(format!(
                    "its digest is {found}, and the artifact's lock has {wanted}"
                ))
            }
        }
    }

    async fn check_bytes(
        &self,
        listed: &Listed,
        manifest: &Manifest,
        work: &Path,
    ) -> Result<(), InspectError> {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let checked = self
                .opened
                .source()
                .blob_file(blob, limits::LAYER, work)
                .await;
            let what = format!("the content of referrer {}", listed.descriptor.digest);
            checked.map_err(|e| self.opened.read(&what, e))?;
        }
        Ok(())
    }
}
