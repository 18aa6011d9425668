//! The YAML in `examples/` and `docs/` is valid for this release's types.

use std::{fs, path::Path};

use paperclip_crds::v1alpha1::{PaperclipHost, PaperclipPlugin};
use serde_json::Value;

/// Reads one document as the kind it names, without losing a field on the way.
fn check(name: &str, document: &str) {
    let value: Value =
        serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}"));
    let back = match value["kind"].as_str() {
        Some("PaperclipPlugin") => serde_json::from_value::<PaperclipPlugin>(value.clone())
            .and_then(|plugin| serde_json::to_value(plugin.spec)),
        Some("PaperclipHost") => serde_json::from_value::<PaperclipHost>(value.clone())
            .and_then(|host| serde_json::to_value(host.spec)),
        _ => return,
    };
    let back = back.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        value["apiVersion"], "plugins.paperclip.ing/v1alpha1",
        "{name}"
    );
    assert_contains(name, &back, &value["spec"]);
}

/// Fails on a field of `given` that `known` lost: the types do not know it.
fn assert_contains(name: &str, known: &Value, given: &Value) {
    if let (Value::Object(known), Value::Object(given)) = (known, given) {
        for (field, value) in given {
            let found = known
                .get(field)
                .unwrap_or_else(|| panic!("{name}: no field {field}"));
            assert_contains(name, found, value);
        }
    } else {
        assert_eq!(known, given, "{name}");
    }
}

/// Files of a folder with this extension.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_example_is_valid() {
    let examples = files("../examples", "yaml");
    assert!(examples.len() >= 2, "{} examples", examples.len());
    for (name, text) in examples {
        for document in text.split("\n---\n") {
            check(&name, document);
        }
    }
}

#[test]
fn every_object_in_the_documentation_is_valid() {
    let mut seen = 0;
    for (name, text) in files("../docs", "md") {
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if block.starts_with("apiVersion: plugins.paperclip.ing/") {
                check(&name, block);
                seen += 1;
            }
        }
    }
    assert!(seen >= 2, "{seen} objects in the documentation");
}
