//! What an artifact is in OCI's words: one image where its tree is the same on every CPU,
//! else an index with one image a platform.
//!
//! Only an index says where it runs, so an image without one runs on every platform of this
//! release. The marker of an index names the tree of each platform.

use std::collections::BTreeMap;

use bytes::Bytes;
use paperclip_artifact_format::platform::{Platform, Platforms};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::image::{Descriptor, INDEX_MEDIA_TYPE, Image, MANIFEST_MEDIA_TYPE, Manifest, to_json};

/// Most images of one index that are looked at.
const MAX_IMAGES: usize = 16;

/// An OCI index whose images are one a platform.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Always [`INDEX_MEDIA_TYPE`].
    pub media_type: String,
    /// The images, in order of their platforms.
    pub manifests: Vec<Child>,
    /// Facts that can be read without pulling an image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image as an index names it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Child {
    /// Its manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// Where it runs.
    pub platform: OciPlatform,
}

/// A platform in OCI's words.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct OciPlatform {
    /// The CPU.
    pub architecture: String,
    /// The operating system.
    pub os: String,
}

impl Index {
    /// The images with the platforms they are for.
    ///
    /// # Errors
    /// When one is no image, is for a platform that this release does not know, or for one
    /// that another is for.
    pub fn images(&self) -> Result<BTreeMap<Platform, &Descriptor>, String> {
        let mut images = BTreeMap::new();
        for Child {
            descriptor,
            platform: OciPlatform { architecture, os },
        } in &self.manifests
        {
            let named = format!("{os:.32}/{architecture:.32}");
            if descriptor.media_type != MANIFEST_MEDIA_TYPE {
                let found = &descriptor.media_type;
                return Err(format!(
                    "what it has for {named} is {found:.200}, wanted an image"
                ));
            }
            let platform = Platform::of_oci(os, architecture).ok_or_else(|| {
                let wanted = Platforms::supported();
                format!("it has an image for {named}, wanted some of {wanted}")
            })?;
            if images.insert(platform, descriptor).is_some() {
                return Err(format!("it has two images for {named}"));
            }
        }
        if images.is_empty() || self.manifests.len() > MAX_IMAGES {
            let found = self.manifests.len();
            return Err(format!("it has {found} images, wanted 1 to {MAX_IMAGES}"));
        }
        Ok(images)
    }
}

/// What stands under the digest of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Top {
    /// One image.
    Image(Manifest),
    /// One image a platform.
    Index(Index),
}

impl Top {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(content).map_err(|e| e.to_string())?;
        let media_type = value["mediaType"].as_str().unwrap_or_default().to_owned();
        let version = value["schemaVersion"].as_u64();
        let top = match media_type.as_str() {
            INDEX_MEDIA_TYPE => serde_json::from_value(value).map(Self::Index),
            _ => serde_json::from_value(value).map(Self::Image),
        };
        let top = top.map_err(|e| e.to_string())?;
        if version != Some(2) || !matches!(&*media_type, MANIFEST_MEDIA_TYPE | INDEX_MEDIA_TYPE) {
            let wanted = format!("{MANIFEST_MEDIA_TYPE} or {INDEX_MEDIA_TYPE}");
            return Err(format!(
                "it is {media_type:.200}, wanted {wanted} of version 2"
            ));
        }
        Ok(top)
    }

    /// Its annotations.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Image(manifest) => &manifest.annotations,
            Self::Index(index) => &index.annotations,
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Image(_) => MANIFEST_MEDIA_TYPE,
            Self::Index(_) => INDEX_MEDIA_TYPE,
        }
    }
}

/// An artifact, whole and in memory.
#[derive(Clone, Debug)]
pub enum Packed {
    /// One image that runs on every platform of this release.
    Image(Image),
    /// One image a platform.
    Index {
        /// Bytes of the index.
        index: Bytes,
        /// The images.
        images: BTreeMap<Platform, Image>,
    },
}

impl Packed {
    /// An index of these images. Equal inputs give equal bytes.
    #[must_use]
    pub fn index(images: BTreeMap<Platform, Image>, annotations: BTreeMap<String, String>) -> Self {
        let manifests = images.iter().map(|(platform, image)| Child {
            descriptor: image.descriptor(),
            platform: OciPlatform {
                architecture: platform.oci_architecture().unwrap_or(&platform.cpu).into(),
                os: platform.os.clone(),
            },
        });
        let index = to_json(&Index {
            schema_version: 2,
            media_type: INDEX_MEDIA_TYPE.into(),
            manifests: manifests.collect(),
            annotations,
        });
        Self::Index { index, images }
    }

    /// The digest that names the artifact.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.manifest())
    }

    /// Bytes of the manifest or the index.
    #[must_use]
    pub fn manifest(&self) -> &Bytes {
        match self {
            Self::Image(image) => image.manifest(),
            Self::Index { index, .. } => index,
        }
    }

    /// The artifact as a referrer names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let media_type = match self {
            Self::Image(_) => MANIFEST_MEDIA_TYPE,
            Self::Index { .. } => INDEX_MEDIA_TYPE,
        };
        Descriptor::of(media_type, self.manifest())
    }

    /// Its images.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let (one, many) = match self {
            Self::Image(image) => (Some(image), None),
            Self::Index { images, .. } => (None, Some(images.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The platforms it is for; none where it runs on every one.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        match self {
            Self::Image(_) => Vec::new(),
            Self::Index { images, .. } => images.keys().cloned().collect(),
        }
    }

    /// Size of the stored layers in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.images().map(Image::size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageBuilder;

    fn packed() -> Packed {
        let platforms = Platforms::supported();
        let images = platforms.iter().map(|platform| {
            let architecture = platform.oci_architecture().unwrap();
            let image = ImageBuilder::new().architecture(architecture).build();
            (platform.clone(), image)
        });
        Packed::index(images.collect(), BTreeMap::from([("a".into(), "b".into())]))
    }

    #[test]
    fn bytes_of_an_index_are_pinned_and_read_back() {
        let packed = packed();
        assert_eq!(
            packed.digest().as_str(),
            "sha256:a4a4e2e2d7ea2cdeb312602ddd437827b8d2378bbb2cbcfb5d92e6a9d7ec3308"
        );
        let Ok(Top::Index(index)) = Top::parse(packed.manifest()) else {
            panic!("no index");
        };
        let images = index.images().unwrap();
        assert_eq!(
            images.keys().cloned().collect::<Platforms>(),
            Platforms::supported()
        );
        assert!(
            packed
                .images()
                .zip(images.values())
                .all(|(image, found)| image.descriptor() == **found)
        );
    }

    #[test]
    fn an_index_of_something_else_is_refused() {
        let refused = |change: &dyn Fn(&mut Index)| {
            let Ok(Top::Index(mut index)) = Top::parse(packed().manifest()) else {
                panic!("no index");
            };
            change(&mut index);
            index.images().unwrap_err()
        };
        assert!(refused(&|index| index.manifests.clear()).contains("0 images"));
        let twice = refused(&|index| index.manifests[1] = index.manifests[0].clone());
        assert!(twice.contains("two images for linux/amd64"), "{twice}");
        let other = refused(&|index| index.manifests[0].platform.architecture = "s390x".into());
        assert!(other.contains("linux/s390x"), "{other}");
        let nested = refused(&|index| {
            index.manifests[0].descriptor.media_type = INDEX_MEDIA_TYPE.into();
        });
        assert!(nested.contains("wanted an image"), "{nested}");
        for text in [
            &b"{}"[..],
            b"[]",
            br#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#,
        ] {
            assert!(Top::parse(text).is_err());
        }
    }
}
