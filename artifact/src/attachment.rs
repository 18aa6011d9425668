//! What programs of this project attach to an artifact as referrers, and how to know it again.

use std::collections::BTreeMap;

use bytes::Bytes;
use paperclip_artifact_format::annotations;
use paperclip_oci::image::Descriptor;
use paperclip_oci::referrers::Referrer;

use crate::inputs::{LOCK_MEDIA_TYPE, PACKER};
use crate::provenance;
use crate::sbom;
use crate::trust::{evidence, verification};

/// Annotation by which others find a statement's predicate type without its blob.
const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";

/// What programs of this project attach to artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The CycloneDX bill of materials.
    Sbom,
    /// The SLSA provenance.
    Provenance,
    /// The lock it was installed from.
    Lock,
    /// What the registry said of the package's signatures.
    Evidence,
    /// Which policies it met.
    Verification,
}

impl Kind {
    /// Those that every artifact has, in the order in which they are pushed.
    pub const ALL: [Self; 3] = [Self::Sbom, Self::Provenance, Self::Lock];

    /// All of them.
    const KNOWN: [Self; 5] = [
        Self::Sbom,
        Self::Provenance,
        Self::Lock,
        Self::Evidence,
        Self::Verification,
    ];

    /// Media type of the blob, and artifact type of the manifest.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Sbom => sbom::MEDIA_TYPE,
            Self::Provenance => provenance::MEDIA_TYPE,
            Self::Lock => LOCK_MEDIA_TYPE,
            Self::Evidence => evidence::MEDIA_TYPE,
            Self::Verification => verification::MEDIA_TYPE,
        }
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sbom => "SBOM",
            Self::Provenance => "provenance",
            Self::Lock => "lock",
            Self::Evidence => "evidence of signatures",
            Self::Verification => "record of a verification",
        }
    }

    /// The kind of a referrer that a packer of this project made.
    #[must_use]
    pub fn of(artifact_type: &str, annotations: &BTreeMap<String, String>) -> Option<Self> {
        let kind = Self::KNOWN
            .into_iter()
            .find(|kind| kind.media_type() == artifact_type);
        kind.filter(|_| annotations.contains_key(annotations::PACKER))
    }

    fn annotations(self) -> BTreeMap<String, String> {
        let mut named = BTreeMap::from([(annotations::PACKER.into(), PACKER.into())]);
        if self == Self::Provenance {
            named.insert(
                PREDICATE_ANNOTATION.into(),
                provenance::PREDICATE_TYPE.into(),
            );
        }
        named
    }

    /// Attaches content to an artifact. Equal content gives equal bytes.
    #[must_use]
    pub fn attach(self, subject: Descriptor, content: Bytes) -> Referrer {
        Referrer::new(self.media_type(), self.annotations(), subject, content)
    }
}

#[cfg(test)]
mod tests {
    use paperclip_oci::Digest;
    use paperclip_oci::image::MANIFEST_MEDIA_TYPE;

    use super::*;

    fn referrer(content: &'static str) -> Referrer {
        let subject = Descriptor::of(MANIFEST_MEDIA_TYPE, b"image");
        Kind::Sbom.attach(subject, content.into())
    }

    #[test]
    fn bytes_of_a_referrer_are_pinned() {
        let one = referrer("{}");
        assert_eq!(one, referrer("{}"));
        assert_eq!(
            String::from_utf8_lossy(one.manifest()),
            format!(
                concat!(
                    r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.cyclonedx+json","#,
                    r#""config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"#,
                    r#""layers":[{{"mediaType":"application/vnd.cyclonedx+json","digest":"{empty}","size":2}}],"#,
                    r#""subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{image}","size":5}},"#,
                    r#""annotations":{{"ing.paperclip.plugins.packer":"{packer}"}}}}"#
                ),
                empty = Digest::of(b"{}"),
                image = Digest::of(b"image"),
                packer = PACKER,
            )
        );
    }
}
