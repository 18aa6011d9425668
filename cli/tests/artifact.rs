//! `pack`, `inspect` and `verify` as a person runs them, without a cluster.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use paperclip_artifact::{
    image::{Image, ImageBuilder, LayerBuilder},
    layout::Layout,
    referrers::{Kind, Referrer},
};

const PACKAGE: &str = "paperclip-plugin-bcp-commerce";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env("PAPERCLIP_NPM_REGISTRY", npm_registry())
        .env("DOCKER_CONFIG", "/nonexistent/docker")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

/// The npm registry of the run.
fn npm_registry() -> String {
    std::env::var("PAPERCLIP_NPM_REGISTRY").unwrap_or_else(|_| {
        let npm = Command::new("npm")
            .args(["config", "get", "registry"])
            .output()
            .expect("npm says which registry this machine uses");
        String::from_utf8(npm.stdout).unwrap().trim().to_owned()
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// An artifact whose bytes depend on nothing outside this file.
fn sample() -> (Image, Vec<Referrer>) {
    let manifest = r#"{"id":"example.tea","version":"1.0.0","displayName":"Tea","capabilities":["agent.tools.register","jobs.schedule"],
        "tools":[{"name":"brew"}],"jobs":[{"jobKey":"descale","schedule":"0 4 * * *"},{"jobKey":"rinse"}],"webhooks":[{"endpointKey":"order"}]}"#;
    let facts = LayerBuilder::new()
        .bytes(
            ".paperclip/artifact.json",
            r#"{"package":"tea","version":"1.0.0"}"#,
            0o644,
        )
        .bytes(".paperclip/package-lock.json", "{}", 0o644)
        .bytes(".paperclip/plugin-manifest.json", manifest, 0o644);
    let tree = LayerBuilder::new().bytes("package.json", "{}", 0o644);
    let image = ImageBuilder::new()
        .layer(facts.build().unwrap())
        .layer(tree.build().unwrap())
        .annotation("ing.paperclip.plugins.marker", "0".repeat(64))
        .annotation("org.opencontainers.image.title", "tea")
        .annotation("org.opencontainers.image.version", "1.0.0")
        .build();
    let attach = |kind: Kind| {
        let content = format!("{{\"this\": \"{}\"}}\n", kind.name());
        Referrer::new(kind, image.descriptor(), content.into())
    };
    let referrers = Kind::ALL.map(attach).to_vec();
    (image, referrers)
}

fn layout(folder: &Path) {
    let (image, referrers) = sample();
    Layout::write(folder, &image, &referrers, "1.0.0").unwrap();
}

#[test]
fn inspection_is_as_committed() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    insta::assert_snapshot!("inspect", succeeded(&["inspect", place]));
    insta::assert_snapshot!("inspect-json", succeeded(&["inspect", place, "-o", "json"]));
}

#[test]
fn each_document_is_printed_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    for (option, kind) in [
        ("--sbom", Kind::Sbom),
        ("--provenance", Kind::Provenance),
        ("--lock", Kind::Lock),
    ] {
        let wanted = format!("{{\"this\": \"{}\"}}\n", kind.name());
        assert_eq!(succeeded(&["inspect", place, option]), wanted);
    }
    let manifest = succeeded(&["inspect", place, "--manifest"]);
    assert!(manifest.contains("\"id\": \"example.tea\""), "{manifest}");
    let two = run(&["inspect", place, "--sbom", "--lock"]);
    assert_eq!(two.status.code(), Some(2));
}

#[test]
fn inspection_does_not_need_the_tree_and_verification_does() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    let (image, _) = sample();
    let tree = folder
        .path()
        .join("blobs/sha256")
        .join(image.layers()[1].digest().hex());
    fs::remove_file(&tree).unwrap();
    succeeded(&["inspect", place]);
    let output = run(&["verify", place]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot read the tree layer"), "{said}");
    assert!(said.contains(tree.to_str().unwrap()), "{said}");
}

#[test]
fn what_is_neither_layout_nor_reference_is_named() {
    let output = run(&["inspect", "plugins/tea"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("plugins/tea is no folder with an OCI image layout"),
        "{said}"
    );
    assert!(said.contains("HOST/REPOSITORY:TAG"), "{said}");
}

#[test]
fn registry_that_is_not_there_exits_with_4() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let output = run(&[
        "inspect",
        "--plain-http",
        &format!("{address}/plugins/tea:v1"),
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn package_is_packed_and_verified_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (path("first"), path("second"));
    let spec = format!("{PACKAGE}@0.1.0");
    let told = run(&["pack", &spec, "--layout", &first]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(
        text(&told.stderr).contains("evaluating the plugin manifest"),
        "progress"
    );
    let answer = text(&told.stdout);
    let digest = succeeded(&["inspect", &first, "-o", "name"]);
    assert!(
        answer.starts_with(&format!("Digest:   {digest}Size:     ")),
        "{answer}"
    );

    // The same lock in a file with the plugin, as a cluster would get both.
    let lock = fs::read_to_string(path("first/package-lock.json")).unwrap();
    let lock = lock.replace('\n', "\n    ");
    let yaml = format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1\nkind: PaperclipPlugin\nmetadata: {{name: commerce}}\n\
         spec:\n  source: {{npm: {{package: {PACKAGE}, version: 0.1.0, lock: {{name: locks, key: lock}}}}}}\n\
         ---\nkind: ConfigMap\nmetadata: {{name: locks}}\ndata:\n  lock: |\n    {lock}\n"
    );
    fs::write(path("plugin.yaml"), yaml).unwrap();
    let again = succeeded(&[
        "pack",
        &path("plugin.yaml"),
        "--layout",
        &second,
        "-o",
        "name",
    ]);
    assert_eq!(again, digest);

    let verified = succeeded(&["verify", &first]);
    for part in ["tree", "packages", "SBOM", "provenance"] {
        assert!(verified.contains(&format!("\n{part} ")), "{verified}");
    }
}

#[test]
fn version_that_is_not_there_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    let output = run(&["pack", &format!("{PACKAGE}@99.0.0"), "--layout", &to]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("99.0.0"), "{said}");
    let output = run(&["pack", &format!("{PACKAGE}@latest"), "--layout", &to]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
