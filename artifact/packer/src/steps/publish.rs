//! The last step of packing as a whole: what was brought here is judged, then signed, and only
//! then pushed.
//!
//! A refusal leaves the store as it was: no blob, no tag, no tarball. The signature goes
//! before the artifact, so that none is ever there without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::{InspectError, Opened};
use paperclip_artifact::lock::Lock;
use paperclip_artifact::trust::platform::{self, Origin, SignError};
use paperclip_artifact::trust::{Evidence, SigningKey, Subject};
use paperclip_artifact_format::platform::Platforms;
use paperclip_error_chain::chain;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::Descriptor;
use paperclip_oci::referrers::Referrer;
use paperclip_oci::source::Source;
use paperclip_packing_api::policies::Policies;
use paperclip_packing_api::report::{Failure, FailureReason, Published, Pushed};
use paperclip_packing_api::request::RemoteImage;

use crate::evidence::image;
use crate::source::promote::{self, PromoteError};
use crate::steps::assemble::Assembled;
use crate::steps::error::PackError;
use crate::steps::verify::{self, Accepted, JudgeError};
use crate::steps::work::Work;

/// Where the step that brings an image leaves it, in the work folder.
const LAYOUT: &str = "layout";

/// Where an artifact goes, and on which terms.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The store.
    pub store: &'a StoreClient,
    /// Repository in it.
    pub repository: &'a str,
    /// Tag under which it is found again.
    pub tag: &'a str,
    /// What the policies ask of it.
    pub demand: &'a Policies,
    /// The platform's key; without one it is not signed.
    pub key: Option<&'a SigningKey>,
}

/// Why an artifact was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A policy is not met, or what it asks for could not be read.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The platform's signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A package.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// An image.
    #[error(transparent)]
    Promote(#[from] PromoteError),
    /// What the policies found could not be written down.
    #[error(transparent)]
    Record(#[from] StoreError),
    /// The work folder could not be used.
    #[error("cannot use {}", path.display())]
    Work {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl From<&PublishError> for Failure {
    fn from(error: &PublishError) -> Self {
        let reason = match error {
            PublishError::Judge(error) => return Self::from(error),
            PublishError::Pack(error) => return Self::from(error),
            PublishError::Promote(error) => return Self::from(error),
            PublishError::Sign(SignError::Store { .. }) | PublishError::Record(_) => {
                FailureReason::StoreUnavailable
            }
            PublishError::Sign(SignError::Key(_)) | PublishError::Work { .. } => {
                FailureReason::PackingFailed
            }
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

impl Publication<'_> {
    /// Publishes the package that the steps before left in the work folder, and keeps its
    /// tarballs where it has some of a registry.
    ///
    /// # Errors
    /// When a policy is not met, a step before did not end well, or the store fails.
    pub async fn package(
        &self,
        work: &Work,
        keeps_tarballs: bool,
    ) -> Result<Published, PublishError> {
        let assembled = work.assemble()?;
        let accepted = self.judge(&evidence_of(&assembled)?)?;
        let subject = assembled.packed().descriptor();
        let signed_by = self.sign(&subject.digest, &origin_of(&assembled)).await?;
        let pushed = assembled.push(self.store, self.repository, self.tag);
        let pushed = pushed.await?;
        if keeps_tarballs {
            work.keep_tarballs(self.store).await?;
        }
        self.finish(pushed, &subject, accepted, signed_by).await
    }

    /// Publishes the image that [`bring_image`] left in the work folder.
    ///
    /// # Errors
    /// When a policy is not met, the copy is no longer what it was, or the store fails.
    pub async fn image(&self, work: &Path, image: &RemoteImage) -> Result<Published, PublishError> {
        let layout = work.join(LAYOUT);
        let subject = subject_of_copy(&layout, &image.digest).await?;
        let content = read(&evidence_file(work))?;
        let evidence = Evidence::parse(&content, &subject).map_err(JudgeError::Refused)?;
        let accepted = self.judge(&evidence)?;
        let copy = promote::descriptor_of(&layout, &image.digest).await?;
        let referrer = Kind::Evidence.attach(copy.clone(), content.into());
        let origin = Origin {
            source: format!("{}@{}", image.repository, image.digest),
            integrity: image.digest.to_string(),
            evidence: Some(referrer.listed().descriptor.digest.clone()),
        };
        let signed_by = self.sign(&image.digest, &origin).await?;
        let ours = [referrer];
        let pushed = promote::push_with(
            &layout,
            &image.digest,
            self.store,
            (self.repository, self.tag),
            &ours,
        );
        self.finish(pushed.await?, &copy, accepted, signed_by).await
    }

    /// What the policies found; nothing where none asks.
    fn judge(&self, evidence: &Evidence) -> Result<Option<Accepted>, PublishError> {
        if self.demand.is_empty() {
            return Ok(None);
        }
        let decided = verify::decide(self.demand.policies(), evidence);
        Ok(Some(decided.map_err(JudgeError::Refused)?))
    }

    async fn sign(&self, digest: &Digest, origin: &Origin) -> Result<Option<Digest>, PublishError> {
        match self.key {
            None => Ok(None),
            Some(key) => {
                let signed = platform::sign(self.store, self.repository, digest, origin, key);
                Ok(Some(signed.await?))
            }
        }
    }

    async fn finish(
        &self,
        pushed: Pushed,
        artifact: &Descriptor,
        accepted: Option<Accepted>,
        signed_by: Option<Digest>,
    ) -> Result<Published, PublishError> {
        if let Some(accepted) = &accepted {
            verify::record(self.store, self.repository, artifact, accepted).await?;
        }
        Ok(Published {
            pushed,
            proofs: accepted.map_or_else(Vec::new, |accepted| accepted.summary()),
            signed_by,
        })
    }
}

/// Copies an image into the work folder, and writes down what stands beside it.
///
/// # Errors
/// When it cannot be had, breaks a rule of artifacts, or is for none of these platforms.
pub async fn bring_image(
    source: &Source,
    digest: &Digest,
    wanted: &Platforms,
    work: &Path,
) -> Result<paperclip_packing_api::report::Fetched, PublishError> {
    let layout = work.join(LAYOUT);
    let fetched = promote::bring(source, digest, &layout, &work.join("scratch")).await?;
    promote::check_platforms(&layout, digest, wanted).await?;
    let subject = subject_of_copy(&layout, digest).await?;
    let evidence = match source {
        Source::Store { client, repository } => {
            let gathered = image::of_image(client, repository, subject).await;
            gathered.map_err(|e| PromoteError::Inspect(unread(digest, e)))?
        }
        // A folder has no tags.
        Source::Layout(_) => Evidence {
            subject,
            ..Evidence::default()
        },
    };
    let content = evidence.to_bytes().map_err(PackError::Evidence)?;
    let path = evidence_file(work);
    fs::write(&path, content).map_err(|source| PublishError::Work { path, source })?;
    Ok(fetched)
}

fn unread(digest: &Digest, source: StoreError) -> InspectError {
    InspectError::Read {
        what: "the signatures".into(),
        artifact: digest.clone(),
        source: Box::new(source.into()),
    }
}

fn evidence_file(work: &Path) -> PathBuf {
    work.join("evidence.json")
}

fn read(path: &Path) -> Result<Vec<u8>, PublishError> {
    fs::read(path).map_err(|source| PublishError::Work {
        path: path.to_owned(),
        source,
    })
}

/// What a copied artifact says of itself, and the image that it is.
async fn subject_of_copy(layout: &Path, digest: &Digest) -> Result<Subject, PublishError> {
    let layout = promote::opened_layout(layout)?;
    let source = Source::Layout(layout);
    let opened = Opened::open(&source, digest).await;
    let opened = opened.map_err(PromoteError::Inspect)?;
    let subject = verify::subject_of(&opened).await;
    Ok(Subject {
        source_digest: Some(digest.clone()),
        ..subject.map_err(PromoteError::Inspect)?
    })
}

/// What was recorded of a package, tied to what was packed. A plugin of one file has none.
fn evidence_of(assembled: &Assembled) -> Result<Evidence, PublishError> {
    let inputs = assembled.inputs();
    let (package, version) = (inputs.package.clone(), inputs.version.clone());
    let lock = Lock::parse(assembled.lock(), &package, &version).map_err(PackError::Lock)?;
    let subject = Subject {
        integrity: lock.integrity(&package).unwrap_or_default().into(),
        package,
        version,
        source_digest: None,
    };
    match recorded(assembled) {
        None => Ok(Evidence {
            subject,
            ..Evidence::default()
        }),
        Some(referrer) => {
            let evidence = Evidence::parse(referrer.content(), &subject);
            Ok(evidence.map_err(JudgeError::Refused)?)
        }
    }
}

fn recorded(assembled: &Assembled) -> Option<&Referrer> {
    let wanted = Kind::Evidence.media_type();
    let mut referrers = assembled.referrers().iter();
    referrers.find(|referrer| referrer.listed().artifact_type == wanted)
}

fn origin_of(assembled: &Assembled) -> Origin {
    let inputs = assembled.inputs();
    Origin {
        source: inputs.registry.clone(),
        integrity: inputs.integrity.clone(),
        evidence: recorded(assembled).map(|one| one.listed().descriptor.digest.clone()),
    }
}
