//! Verifies an artifact as a whole: every byte against its digest, and every part against
//! the others.
//!
//! The chain of digests says that nothing changed since it was packed. The rest says that
//! what was packed belongs together: the tree is what the lock says, the bill of materials
//! lists it, the plugin manifest keeps Paperclip's rules, and the provenance is this
//! artifact's. Referrers that others made are checked byte for byte and not understood.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::digest::Digest;
use crate::image::Manifest;
use crate::inspect::{Facts, InspectError, Opened, kind};
use crate::install;
use crate::limits;
use crate::lock::Lock;
use crate::manifest;
use crate::pack::annotations;
use crate::provenance;
use crate::pull::{self, PullError};
use crate::referrers::{Kind, Listed};
use crate::sbom;
use crate::source::Source;
use crate::trust::{Evidence, Subject, record};

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

/// Verifies an artifact; the tree is unpacked in `work`, an empty folder.
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
    let tree = work.join("tree");
    let entries = unpack(&opened, work, &tree).await?;
    let marker = opened.annotation(annotations::MARKER)?;
    verified.add("layers", "bytes match their digests, packed and unpacked");
    verified.add(
        "tree",
        format!("{entries} files and folders with marker {marker}"),
    );
    let facts = opened.facts().await?;
    let lock = check_facts(&opened, &facts)?;
    verified.add("plugin manifest", "keeps every rule of Paperclip");
    verified.add("lock", format!("digest {}", lock.digest()));
    install::compare(&tree, &lock).map_err(|e| opened.refused("the tree", e.to_string()))?;
    let count = lock.len();
    verified.add(
        "packages",
        format!("the tree holds the {count} of the lock, and no others"),
    );
    let referrers = Referrers {
        opened: &opened,
        facts: &facts,
        lock: &lock,
        tree: &tree,
    };
    referrers.verify(work, &mut verified).await?;
    Ok(verified)
}

/// Checks the layers and unpacks them; gives the number of entries of the tree.
async fn unpack(opened: &Opened<'_>, work: &Path, tree: &Path) -> Result<usize, InspectError> {
    let failed = |source| PullError::Write {
        path: work.to_owned(),
        source,
    };
    let blobs = work.join("blobs");
    fs::create_dir_all(&blobs).map_err(failed)?;
    fs::create_dir_all(tree).map_err(failed)?;
    let mut layers = Vec::new();
    let diff_ids = &opened.config().rootfs.diff_ids;
    for ((layer, diff_id), what) in opened
        .manifest()
        .layers
        .iter()
        .zip(diff_ids)
        .zip(["the facts layer", "the tree layer"])
    {
        let path = opened
            .source()
            .blob_file(layer, limits::LAYER, &blobs)
            .await;
        let path = path.map_err(|e| opened.read(what, e))?;
        layers.push((path, diff_id.clone()));
    }
    let marker = opened.annotation(annotations::MARKER)?;
    Ok(pull::unpack(opened.digest(), marker, tree, &layers)?)
}

fn check_facts(opened: &Opened<'_>, facts: &Facts) -> Result<Lock, InspectError> {
    let refused = |what: &str, why: String| opened.refused(what, why);
    let named = [
        ("ing.paperclip.plugins.package", &facts.package),
        ("org.opencontainers.image.version", &facts.version),
    ];
    for (name, fact) in named {
        let annotation = opened.annotation(name)?;
        if annotation != fact {
            let why = format!("{name} is {annotation}, and the artifact itself says {fact}");
            return Err(refused("the OCI manifest", why));
        }
    }
    manifest::validate(&facts.plugin_manifest)
        .map_err(|e| refused("the plugin manifest", e.to_string()))?;
    let lock = Lock::parse(&facts.lock, &facts.package, &facts.version)
        .map_err(|e| refused("the lock", e.to_string()))?;
    let stated = opened.annotation(annotations::LOCK_DIGEST)?;
    let found = Digest::of(&facts.lock);
    if found.as_str() != stated || lock.digest() != found {
        let why = format!("its digest is {found}, and the OCI manifest says {stated}");
        return Err(refused("the lock", why));
    }
    Ok(lock)
}

/// What the referrers of an artifact are checked against.
struct Referrers<'a> {
    opened: &'a Opened<'a>,
    facts: &'a Facts,
    lock: &'a Lock,
    tree: &'a Path,
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
                let wanted = sbom::build(subject, package, version, self.lock, self.tree);
                sbom::check(content, &wanted.map_err(|e| e.to_string())?)
            }
            Kind::Provenance => {
                let facts = provenance::Facts {
                    subject,
                    package,
                    version,
                    integrity: self.lock.integrity(package).unwrap_or_default(),
                    lock_digest: &self.lock.digest(),
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
            Kind::Verification => record::check(content, subject),
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
