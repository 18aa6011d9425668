//! Test binaries of the workspace, as cargo listed them when it built everything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A compiled test binary of libtest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestBinary {
    /// Package and target, `paperclip-host cases`.
    pub name: String,
    /// Name of the package.
    pub package: String,
    /// Folder of the package, in which its tests run.
    pub folder: PathBuf,
    executable: PathBuf,
}

impl TestBinary {
    /// The binary as cargo would run it: in its package's folder, with the variables that tests
    /// read at run time.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("CARGO_PKG_NAME", &self.package);
        command
    }
}

/// Reads the messages that `cargo build --message-format=json` wrote to a file.
///
/// # Errors
/// When the file cannot be read, or lists no test binary.
pub fn of_messages(file: &Path) -> Result<Vec<TestBinary>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let found = parse(&text);
    ensure!(!found.is_empty(), "no test binary in {}", file.display());
    Ok(found)
}

fn parse(messages: &str) -> Vec<TestBinary> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    // One binary for a target: messages of a target that was built twice are equal in name.
    let found: BTreeMap<String, TestBinary> = messages
        .filter_map(|message| test_binary(&message))
        .map(|binary| (binary.name.clone(), binary))
        .collect();
    found.into_values().collect()
}

fn test_binary(message: &Value) -> Option<TestBinary> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let executable = message["executable"].as_str().filter(|_| is_test)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let target = &message["target"];
    let package = package_name(message["package_id"].as_str()?);
    let kind = match target["kind"][0].as_str()? {
        "test" => "",
        "bin" => " (program)",
        "example" => " (example)",
        _ => " (library)",
    };
    Some(TestBinary {
        name: format!("{package} {}{kind}", target["name"].as_str()?),
        package,
        folder: folder.to_owned(),
        executable: executable.into(),
    })
}

/// Name in a package id such as `path+file:///x/sidecar#paperclip-sidecar@0.1.0`. It is left out
/// where the folder has the package's name.
fn package_name(id: &str) -> String {
    let (path, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, test: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": "path+file:///x/host#paperclip-host@0.1.0",
            "manifest_path": "/x/host/Cargo.toml",
            "target": {"name": "cases", "kind": [kind]},
            "profile": {"test": test},
            "executable": "/t/debug/deps/cases-1",
        })
        .to_string()
    }

    #[test]
    fn a_test_is_run_in_the_folder_of_its_package() {
        let found = parse(&message("test", true));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "paperclip-host cases");
        assert_eq!(found[0].folder, Path::new("/x/host"));
    }

    #[test]
    fn a_program_is_no_test_but_its_unit_tests_are() {
        assert_eq!(parse(&message("bin", false)), []);
        assert_eq!(
            parse(&message("bin", true))[0].name,
            "paperclip-host cases (program)"
        );
    }

    #[test]
    fn package_ids_of_both_forms_are_understood() {
        assert_eq!(
            package_name("path+file:///x/sidecar/shim#paperclip-shim@0.1.0"),
            "paperclip-shim"
        );
        assert_eq!(package_name("path+file:///x/tally#0.1.0"), "tally");
    }
}
