//! The npm registry of a cluster: the only thing outside that pods reach.
//!
//! Three processes stand in a row. The *proxy* listens on the bridge, where it counts
//! what pods ask for and can refuse them; on loopback it serves this machine, uncounted.
//! Behind it is a Verdaccio whose storage is the cluster's: the suite publishes there, and
//! what it published ends with the cluster, so the same version can be published again by
//! the next. Behind that is a Verdaccio that keeps what it pulled from the machine's own
//! npm registry in the cache folder, for all clusters: a second run needs no outside.
//! One Verdaccio for both was rejected: a published version would outlive its cluster.

pub mod proxy;

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use paperclip_test_programs::cache;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::{
    layout::{Layout, command_output},
    process::{Daemon, PATIENCE, eventually, log_tail},
    programs, wire,
};

/// Port of the registry for pods, on the bridge; and for this machine, on loopback.
const PORT: u16 = 4873;
const CONTROL_PORT: u16 = 4874;
const OWN_PORT: u16 = 4875;
const MIRROR_PORT: u16 = 4876;

/// The npm registry of a running cluster.
pub struct Npm {
    layout: Layout,
}

impl Npm {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
        }
    }

    /// URL for pods, without a slash at the end. Counted, and gone while cut.
    pub fn url_in_cluster(&self) -> String {
        format!("http://{}:{PORT}", self.layout.gateway())
    }

    /// URL for this machine, not counted and never cut.
    pub fn url_on_this_machine(&self) -> String {
        format!("http://{}:{PORT}", self.layout.loopback())
    }

    /// URL of the registry behind it all, with a slash at the end.
    pub fn upstream_url(&self) -> String {
        fs::read_to_string(self.layout.path("npm/upstream")).unwrap_or_default()
    }

    fn control(&self, path: &str) -> String {
        format!("http://{}:{CONTROL_PORT}{path}", self.layout.loopback())
    }

    /// Successful GETs by pods, by path, since the cluster came up or [`Self::reset_counts`].
    pub fn counts(&self) -> Result<BTreeMap<String, u64>> {
        Ok(serde_json::from_str(&wire::get(&self.control("/counts"))?)?)
    }

    /// Starts counting anew.
    pub fn reset_counts(&self) -> Result<()> {
        wire::post(&self.control("/reset")).map(drop)
    }

    /// Refuses every connection of a pod from now on, and ends the open ones.
    pub fn cut(&self) -> Result<()> {
        wire::post(&self.control("/cut")).map(drop)
    }

    /// Serves pods again.
    pub fn restore(&self) -> Result<()> {
        wire::post(&self.control("/restore")).map(drop)
    }

    /// Packs a package as its author would and publishes it. A version that is there is
    /// replaced, so that a test can be run again on the same cluster.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        let manifest = fs::read(folder.join("package.json"))
            .with_context(|| format!("read package.json of {}", folder.display()))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let name = manifest["name"]
            .as_str()
            .context("package.json has a name")?;
        let version = manifest["version"]
            .as_str()
            .context("package.json has a version")?;
        let scratch = tempfile::tempdir()?;
        let config = self.write_npmrc(scratch.path())?;
        let npm = |arguments: &[&str]| -> Result<String> {
            let mut npm = programs::npm()?;
            npm.current_dir(folder)
                .args(arguments)
                .arg("--userconfig")
                .arg(&config);
            command_output(&mut npm)
        };
        if self.has(&manifest)? {
            npm(&["unpublish", &format!("{name}@{version}"), "--force"])?;
        }
        let archive = npm(&[
            "pack",
            "--silent",
            "--pack-destination",
            &scratch.path().display().to_string(),
        ])?;
        let archive = scratch.path().join(
            archive
                .trim()
                .lines()
                .last()
                .context("npm pack names its file")?,
        );
        // Named, since npm gives a version lower than the last one no tag by itself.
        npm(&["publish", &archive.display().to_string(), "--tag=latest"]).map(drop)
    }

    /// Publishes these files of a folder by one request, as `npm publish` would. A version that
    /// is there is replaced by npm itself.
    pub fn publish_files(&self, folder: &Path, files: &[&str]) -> Result<()> {
        let manifest = fs::read(folder.join("package.json"))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        if self.has(&manifest)? {
            return self.publish(folder);
        }
        let tarball = tarball(folder, files)?;
        let integrity = format!(
            "sha512-{}",
            BASE64_STANDARD.encode(Sha512::digest(&tarball))
        );
        self.publish_raw(&manifest, &tarball, &json!({"integrity": integrity}))
    }

    /// Whether the version of this `package.json` is published.
    fn has(&self, manifest: &Value) -> Result<bool> {
        let field = |name: &str| manifest[name].as_str().context("name and version");
        let (name, version) = (field("name")?, field("version")?);
        Ok(wire::get(&format!("{}/{name}/{version}", self.url_on_this_machine())).is_ok())
    }

    /// Publishes what no author's npm would: this `package.json`, this tarball whatever is in
    /// it, and these words of the registry about it. A version that is there stays.
    pub fn publish_raw(&self, manifest: &Value, tarball: &[u8], dist: &Value) -> Result<()> {
        let field = |name: &str| manifest[name].as_str().context("name and version");
        let (name, version) = (field("name")?, field("version")?);
        let file = format!("{name}-{version}.tgz");
        let url = self.url_on_this_machine();
        if self.has(manifest)? {
            return Ok(());
        }
        let mut described = manifest.clone();
        described["dist"] = dist.clone();
        described["dist"]["tarball"] = format!("{url}/{name}/-/{file}").into();
        let document = json!({
            "_id": name, "name": name, "dist-tags": {"latest": version},
            "versions": {version: described},
            "_attachments": {file: {
                "content_type": "application/octet-stream",
                "data": BASE64_STANDARD.encode(tarball), "length": tarball.len(),
            }},
        });
        wire::put_json(&format!("{url}/{name}"), "anyone", &document).map(drop)
    }

    /// npm insists on a token to publish; this registry takes any.
    fn write_npmrc(&self, folder: &Path) -> Result<std::path::PathBuf> {
        let url = self.url_on_this_machine();
        let host = url.trim_start_matches("http:");
        let file = folder.join("npmrc");
        fs::write(
            &file,
            format!("registry={url}/\n{host}/:_authToken=anyone\nupdate-notifier=false\n"),
        )?;
        Ok(file)
    }
}

/// The files as npm packs them.
fn tarball(folder: &Path, files: &[&str]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for file in files {
        archive
            .append_path_with_name(folder.join(file), format!("package/{file}"))
            .with_context(|| format!("pack {file}"))?;
    }
    Ok(archive.into_inner()?.finish()?)
}

/// Starts the three processes and waits until the registry answers.
pub fn start(layout: &Layout) -> Result<()> {
    let dir = layout.path("npm");
    fs::create_dir_all(&dir)?;
    let upstream = programs::upstream_npm_registry()?;
    fs::write(dir.join("upstream"), &upstream)?;
    let mirror_url = format!("http://{}:{MIRROR_PORT}/", layout.loopback());
    let shared = cache::root()?.join("npm");
    fs::create_dir_all(&shared)?;
    start_verdaccio(layout, "mirror", MIRROR_PORT, &shared, &upstream)?;
    start_verdaccio(layout, "own", OWN_PORT, &dir.join("storage"), &mirror_url)?;
    start_proxy(layout)?;
    let npm = Npm::new(layout);
    eventually("the npm registry", PATIENCE, || {
        wire::get(&format!("{}/-/ping", npm.url_on_this_machine())).map(drop)
    })
    .with_context(|| log_tail(layout, "npm-own"))?;
    eventually("the npm mirror", PATIENCE, || {
        wire::get(&format!("{mirror_url}-/ping")).map(drop)
    })
    .with_context(|| log_tail(layout, "npm-mirror"))
}

fn start_verdaccio(
    layout: &Layout,
    name: &str,
    port: u16,
    storage: &Path,
    uplink: &str,
) -> Result<()> {
    let listen = format!("{}:{port}", layout.loopback());
    let access = if name == "own" {
        "publish: $all\n    unpublish: $all"
    } else {
        "publish: nobody"
    };
    let config = include_str!("../../cluster/verdaccio/config.yaml")
        .replace("{storage}", &storage.display().to_string())
        .replace("{uplink}", uplink)
        .replace("{access}", access)
        .replace("{dir}", &layout.path("npm").display().to_string())
        .replace("{maxage}", if name == "own" { "0s" } else { "30m" });
    let file = layout.path(format!("npm/{name}.yaml"));
    fs::write(&file, config)?;
    Daemon::new(&format!("npm-{name}"), programs::node()?.node())
        .args([programs::verdaccio()?
            .join("node_modules/verdaccio/bin/verdaccio")
            .into_os_string()])
        .args([
            "--config".into(),
            file.into_os_string(),
            "--listen".into(),
            listen.into(),
        ])
        .start(layout)
}

fn start_proxy(layout: &Layout) -> Result<()> {
    let own = std::env::var_os("PAPERCLIP_CLUSTER_PROGRAM")
        .map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    // A copy, so that a rebuild of the program does not matter to a running cluster.
    let program = layout.path("npm/proxy");
    fs::copy(own, &program).context("copy this program")?;
    let address = |ip: std::net::Ipv4Addr, port: u16| SocketAddr::from((ip, port)).to_string();
    Daemon::new("npm-proxy", program)
        .args(["npm-proxy".to_owned()])
        .args(["--pods".to_owned(), address(layout.gateway(), PORT)])
        .args(["--machine".to_owned(), address(layout.loopback(), PORT)])
        .args([
            "--control".to_owned(),
            address(layout.loopback(), CONTROL_PORT),
        ])
        .args([
            "--upstream".to_owned(),
            format!("http://{}", address(layout.loopback(), OWN_PORT)),
        ])
        .start(layout)
}
