//! Credentials for registries, from where `docker login` keeps them.
//!
//! A program that the configuration names for a registry (`credHelpers`, `credsStore`) is
//! asked as Docker asks it; else the text in `auths` counts.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use paperclip_oci::client::Credentials;
use paperclip_oci::docker_config::{self, DockerConfigError};
use paperclip_oci::reference::Repository;
use serde_json::Value;

use crate::error::Error;

/// The credential for a repository, if there is one.
///
/// # Errors
/// When the configuration or what its program says cannot be read.
pub fn credentials(repository: &Repository) -> Result<Option<Credentials>, Error> {
    let Some(path) = config_file() else {
        return Ok(None);
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::ReadFile { path, source }),
    };
    let address = &*repository.address;
    let unusable = |why: DockerConfigError| Error::Input {
        what: format!("{}: {address}: {why}", path.display()),
    };
    let config = docker_config::parse(&text).map_err(unusable)?;
    if let Some(name) = docker_config::helper(&config, address) {
        return ask(name, address);
    }
    match docker_config::credentials(&config, &repository.to_string()) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(why) if why.is_absence() => Ok(None),
        Err(why) => Err(unusable(why)),
    }
}

fn config_file() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".docker"));
    Some(named.or_else(home)?.join("config.json"))
}

/// Asks a credential program; without a credential it ends with an error, as it should.
fn ask(name: &str, address: &str) -> Result<Option<Credentials>, Error> {
    let program = format!("docker-credential-{name}");
    let doing = format!("ask {program} for the credential of {address}");
    let failed = |source| Error::Connection {
        doing: doing.clone(),
        source: Box::<dyn std::error::Error + Send + Sync>::from(source),
    };
    if name.contains('/') {
        return Err(failed(io::Error::other("wanted a name without a slash")));
    }
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read it says so by its exit code.
        let _ = input.write_all(address.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Ok(None);
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| failed(io::Error::other(e.to_string())))?;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Ok(Some(Credentials {
        username: text("Username"),
        password: text("Secret"),
    }))
}
