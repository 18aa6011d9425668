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

use base64::Engine as _;
use paperclip_oci::client::Credentials;
use serde_json::Value;

use crate::error::Error;

/// What a configuration says of a registry.
#[derive(Debug)]
enum Known {
    Credentials(Credentials),
    /// The end of the name of a program `docker-credential-…`.
    Helper(String),
    Nothing,
}

/// The credential for a registry, if there is one.
///
/// # Errors
/// When the configuration or what its program says cannot be read.
pub fn credentials(address: &str) -> Result<Option<Credentials>, Error> {
    let Some(path) = config_file() else {
        return Ok(None);
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::ReadFile { path, source }),
    };
    let config: Value = serde_json::from_slice(&text).map_err(|e| Error::Input {
        what: format!("{}: {e}", path.display()),
    })?;
    let known = find(&config, address).map_err(|why| Error::Input {
        what: format!("{}: the entry of {address}: {why}", path.display()),
    })?;
    match known {
        Known::Credentials(credentials) => Ok(Some(credentials)),
        Known::Helper(name) => ask(&name, address),
        Known::Nothing => Ok(None),
    }
}

fn config_file() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".docker"));
    Some(named.or_else(home)?.join("config.json"))
}

fn find(config: &Value, address: &str) -> Result<Known, String> {
    let helper = config["credHelpers"][address].as_str();
    if let Some(name) = helper.or_else(|| config["credsStore"].as_str()) {
        return Ok(Known::Helper(name.to_owned()));
    }
    let auths = &config["auths"];
    let names = ["", "https://", "http://"].map(|scheme| format!("{scheme}{address}"));
    let found = names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}/v1/"), format!("{name}/v2/")])
        .find_map(|name| auths.get(&name));
    found.map_or(Ok(Known::Nothing), read_entry)
}

fn read_entry(entry: &Value) -> Result<Known, String> {
    let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty());
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Ok(Known::Credentials(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }));
    }
    let Some(encoded) = text("auth") else {
        return Ok(Known::Nothing);
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or("`auth` is not base64 of USER:PASSWORD")?;
    Ok(Known::Credentials(Credentials {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    }))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn login_is_found_under_each_spelling_of_the_address() {
        for name in ["store:5000", "https://store:5000", "https://store:5000/v2/"] {
            // me:a:b
            let config = json!({"auths": {name: {"auth": "bWU6YTpi"}}});
            let Ok(Known::Credentials(found)) = find(&config, "store:5000") else {
                panic!("{name}");
            };
            assert_eq!((&*found.username, &*found.password), ("me", "a:b"));
        }
        let config = json!({"auths": {"other:5000": {"auth": "bWU6YTpi"}}});
        assert!(matches!(find(&config, "store:5000"), Ok(Known::Nothing)));
        let config = json!({"auths": {"store:5000": {"auth": "!"}}});
        let why = find(&config, "store:5000").unwrap_err();
        assert!(!why.contains('!'), "what is there is not shown: {why}");
    }

    #[test]
    fn program_of_a_registry_goes_before_the_common_one() {
        let config = json!({"credHelpers": {"a": "one"}, "credsStore": "two"});
        for (address, wanted) in [("a", "one"), ("b", "two")] {
            let Ok(Known::Helper(name)) = find(&config, address) else {
                panic!("{address}");
            };
            assert_eq!(name, wanted);
        }
    }
}
