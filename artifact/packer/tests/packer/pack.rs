//! Packing by the program, as a person outside a cluster does it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support;

const PACKAGE: &str = "paperclip-plugin-bcp-commerce";

fn pack(output: &Path, arguments: &[&str], shell: &str, path: Option<&Path>) -> Output {
    let registry = support::npm_registry();
    // A shell, because a process cannot be given another umask without unsafe code.
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")])
        .arg(support::packer())
        .args(["pack", "--registry", &registry.url, "--cache"])
        .arg(support::cache())
        .arg("--output")
        .arg(output)
        .args(arguments);
    if let Some(folder) = path {
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", folder.display()));
    }
    command.output().unwrap()
}

fn digest(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn one_lock_gives_one_digest_under_another_umask_and_node() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let wrong = folder.path().join("bin");
    fs::create_dir(&wrong).unwrap();
    for program in ["node", "npm"] {
        fs::write(wrong.join(program), "#!/bin/sh\nexit 7\n").unwrap();
        fs::set_permissions(wrong.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let lock = first.join("package-lock.json");
    let one = pack(
        &first,
        &["--package", PACKAGE, "--version", "0.1.0"],
        "umask 022",
        None,
    );
    let arguments = [
        "--package",
        PACKAGE,
        "--version",
        "0.1.0",
        "--lock",
        lock.to_str().unwrap(),
    ];
    let two = pack(&second, &arguments, "umask 0077", Some(&wrong));
    assert_eq!(digest(&one), digest(&two));
    let text = fs::read_to_string(&lock).unwrap();
    for name in [
        "@paperclipai/plugin-sdk",
        "@paperclipai/shared",
        "zod",
        PACKAGE,
    ] {
        assert!(text.contains(&format!("node_modules/{name}")), "{name}");
    }
    assert!(
        text.contains(r#""@paperclipai/plugin-sdk": "2026.916.1""#),
        "{text}"
    );
    assert!(
        !text.contains("node_modules/react") && !text.contains("http://") && !text.contains(".tgz")
    );
}

#[test]
fn lock_as_an_author_makes_it_with_the_peers_npm_chose_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let made = pack(
        &first,
        &["--package", PACKAGE, "--version", "0.1.0"],
        "true",
        None,
    );
    assert!(made.status.success());
    let text = fs::read_to_string(first.join("package-lock.json")).unwrap();
    let mut lock: serde_json::Value = serde_json::from_str(&text).unwrap();
    lock["packages"][""]["name"] = "mine".into();
    lock["packages"][""]["dependencies"] = serde_json::json!({ PACKAGE: "0.1.0" });
    for name in ["@paperclipai/plugin-sdk", "@paperclipai/shared", "zod"] {
        lock["packages"][format!("node_modules/{name}")]["peer"] = true.into();
    }
    let path = folder.path().join("lock.json");
    fs::write(&path, lock.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let output = pack(
        &second,
        &["--package", PACKAGE, "--version", "0.1.0", "--lock", path],
        "true",
        None,
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn refusal(package: &str, version: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = pack(
        folder.path(),
        &["--package", package, "--version", version],
        "true",
        None,
    );
    assert_eq!(
        output.status.code(),
        Some(10),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_that_is_not_there_is_the_packages_fault() {
    assert!(refusal(PACKAGE, "99.0.0").contains("VersionNotFound"));
    assert!(
        refusal("paperclip-plugin-that-nobody-published-0", "1.0.0").contains("PackageNotFound")
    );
}

#[test]
fn package_that_is_no_plugin_is_refused() {
    let why = refusal("wrappy", "1.0.2");
    assert!(
        why.contains("ManifestMissing") && why.contains("no plugin manifest"),
        "{why}"
    );
}
