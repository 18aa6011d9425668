//! The CycloneDX bill of materials of an artifact: every entry of its lock, and nothing else.
//!
//! It says where each package is (`bom-ref` is its path), what it is (purl, SHA-512), what
//! its own `package.json` says of its licence, and which packages Node finds for it. A
//! package that the lock allows to be missing, and that is, has the scope `excluded`. Where
//! an artifact has a tree a platform, it names the platforms, and those of each package that
//! is not in all trees.
//! Nothing in it depends on time or machine: equal artifacts have equal bytes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use paperclip_artifact_format::annotations::PLATFORM;
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::inputs::PACKER;
use crate::lock::{Lock, Locked};
use crate::toolchain;

/// Media type of the document, and artifact type of its referrer.
pub const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// Version of the format.
const SPEC_VERSION: &str = "1.6";

/// Largest `package.json` that is read for its licence.
const MAX_PACKAGE_JSON: u64 = 1024 * 1024;
/// Longest licence that is taken over.
const MAX_LICENCE: usize = 200;
/// Most licences of one package.
const MAX_LICENCES: usize = 16;

/// What two descriptions of one package are compared by.
const COMPARED: [&str; 10] = [
    "type",
    "group",
    "name",
    "version",
    "scope",
    "hashes",
    "licenses",
    "purl",
    "bom-ref",
    "properties",
];

/// A tree of an artifact.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The platforms it is for; none where it is the only one.
    pub platforms: Vec<Platform>,
    /// Where it is unpacked.
    pub folder: PathBuf,
}

/// A `package.json` of the tree could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} for the bill of materials", path.display())]
pub struct SbomError {
    path: PathBuf,
    source: io::Error,
}

/// The bill of materials of the artifact `subject`, which has these trees.
///
/// # Errors
/// When a `package.json` is there and cannot be read.
pub fn build(
    subject: &Digest,
    package: &str,
    version: &str,
    lock: &Lock,
    trees: &[Tree],
) -> Result<Value, SbomError> {
    let components = lock.locked().map(|locked| component(&locked, trees));
    let components = components.collect::<Result<Vec<_>, _>>()?;
    let mut sbom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": Uuid::new_v5(&Uuid::NAMESPACE_OID, subject.as_str().as_bytes()).urn().to_string(),
        "version": 1,
        "metadata": {
            "tools": { "components": tools() },
            "component": {
                "type": "container",
                "bom-ref": subject,
                "name": package,
                "version": version,
                "hashes": [{ "alg": "SHA-256", "content": subject.hex() }],
            },
        },
        "components": components,
        "dependencies": dependencies(subject, lock),
    });
    if let Some(platforms) = named(trees.iter()) {
        sbom["metadata"]["component"]["properties"] = platforms;
    }
    Ok(sbom)
}

/// The platforms of trees as properties.
fn named<'a>(trees: impl Iterator<Item = &'a Tree>) -> Option<Value> {
    let mut platforms: Vec<_> = trees.flat_map(|tree| &tree.platforms).collect();
    platforms.sort();
    let property =
        |platform: &&Platform| json!({ "name": PLATFORM, "value": platform.to_string() });
    let properties: Vec<_> = platforms.iter().map(property).collect();
    (!properties.is_empty()).then(|| properties.into())
}

/// Checks that a bill of materials is of the artifact `subject` and says what `wanted` says.
///
/// # Errors
/// Names the first package or field that differs, what was found and what is wanted.
pub fn check(found: &[u8], wanted: &Value) -> Result<(), String> {
    let found: Value = serde_json::from_slice(found).map_err(|e| format!("it is no JSON: {e}"))?;
    for field in ["bomFormat", "specVersion"] {
        same(field, &found[field], &wanted[field])?;
    }
    same(
        "metadata.component",
        &found["metadata"]["component"],
        &wanted["metadata"]["component"],
    )?;
    same_items("components", "bom-ref", &COMPARED, &found, wanted)?;
    same_items("dependencies", "ref", &["dependsOn"], &found, wanted)
}

fn same(what: &str, found: &Value, wanted: &Value) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what} is {found:.300}, wanted {wanted:.300}"))
}

/// Compares two lists whose items are known by the field `key`.
fn same_items(
    list: &str,
    key: &str,
    fields: &[&str],
    found: &Value,
    wanted: &Value,
) -> Result<(), String> {
    let by_key = |value: &Value| {
        let items = value[list].as_array().cloned().unwrap_or_default();
        let named = items
            .into_iter()
            .map(|item| (item[key].as_str().unwrap_or_default().to_owned(), item));
        named.collect::<Vec<_>>()
    };
    let mut left = by_key(found);
    for (name, wanted) in by_key(wanted) {
        let Some(at) = left.iter().position(|(found, _)| *found == name) else {
            return Err(format!("{list}: `{name}` is missing"));
        };
        let (_, found) = left.swap_remove(at);
        for &field in fields {
            same(
                &format!("{list}: `{name}`: {field}"),
                &found[field],
                &wanted[field],
            )?;
        }
    }
    match left.first() {
        Some((extra, _)) => Err(format!("{list}: `{extra:.300}` is not in the artifact")),
        None => Ok(()),
    }
}

fn tools() -> Value {
    let (name, version) = PACKER.split_once('/').unwrap_or((PACKER, ""));
    json!([
        { "type": "application", "name": name, "version": version },
        { "type": "application", "name": "npm", "version": toolchain::NPM_VERSION },
        { "type": "platform", "name": "node", "version": toolchain::NODE_VERSION },
    ])
}

fn component(locked: &Locked<'_>, trees: &[Tree]) -> Result<Value, SbomError> {
    let mut package_json = None;
    let mut holders = Vec::new();
    for tree in trees {
        let path = tree.folder.join(locked.path).join("package.json");
        let found = read_package_json(&path).map_err(|source| SbomError { path, source })?;
        if found.is_some() {
            holders.push(tree);
        }
        package_json = package_json.or(found);
    }
    let scope = match (&package_json, locked.optional) {
        (None, _) => "excluded",
        (Some(_), true) => "optional",
        (Some(_), false) => "required",
    };
    let (group, name) = match locked.name.split_once('/') {
        Some((group, name)) => (Some(group), name),
        None => (None, locked.name),
    };
    let mut component = json!({
        "type": "library",
        "bom-ref": locked.path,
        "name": name,
        "version": locked.version,
        "scope": scope,
    });
    // npm publishes no private package, so this one, as a plugin of one file, has no address.
    let is_private = |fields: &Map<String, Value>| fields.get("private") == Some(&true.into());
    if !package_json.as_ref().is_some_and(is_private) {
        component["purl"] = purl(locked.name, locked.version).into();
    }
    if let Some(group) = group {
        component["group"] = group.into();
    }
    if holders.len() < trees.len()
        && let Some(platforms) = named(holders.into_iter())
    {
        component["properties"] = platforms;
    }
    if let Some(sha512) = locked.sha512 {
        component["hashes"] = json!([{ "alg": "SHA-512", "content": hex::encode(sha512) }]);
    }
    let licences = package_json
        .map(|fields| licences(&fields))
        .unwrap_or_default();
    if !licences.is_empty() {
        component["licenses"] = licences.into();
    }
    Ok(component)
}

fn dependencies(subject: &Digest, lock: &Lock) -> Vec<Value> {
    let root = json!({ "ref": subject, "dependsOn": lock.top() });
    let packages = lock
        .locked()
        .map(|locked| json!({ "ref": locked.path, "dependsOn": lock.dependencies(locked.path) }));
    std::iter::once(root).chain(packages).collect()
}

/// The package URL of a package of an npm registry.
#[must_use]
pub fn purl(name: &str, version: &str) -> String {
    let name = name.replace('@', "%40");
    format!("pkg:npm/{name}@{}", version.replace('+', "%2B"))
}

/// `None` without the file; nothing known where it is no JSON object or too large.
fn read_package_json(path: &Path) -> io::Result<Option<Map<String, Value>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_PACKAGE_JSON).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
}

/// The licences that a `package.json` names, in today's spelling or in one of npm's old ones.
fn licences(package_json: &Map<String, Value>) -> Vec<Value> {
    let named = |value: &Value| {
        let text = value.as_str().or_else(|| value["type"].as_str())?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text.len() <= MAX_LICENCE)
    };
    if let Some(text) = package_json.get("license").and_then(named) {
        return vec![licence(&text)];
    }
    let old = package_json.get("licenses").and_then(Value::as_array);
    let old = old
        .into_iter()
        .flatten()
        .take(MAX_LICENCES)
        .filter_map(named);
    // An expression may only stand alone; the old spelling knew none.
    old.map(|text| identified(&text)).collect()
}

fn licence(text: &str) -> Value {
    let is_expression = spdx::license_id(text).is_none() && spdx::Expression::parse(text).is_ok();
    if is_expression {
        return json!({ "expression": text });
    }
    identified(text)
}

fn identified(text: &str) -> Value {
    match spdx::license_id(text) {
        Some(id) => json!({ "license": { "id": id.name } }),
        None => json!({ "license": { "name": text } }),
    }
}

/// The document as it is stored.
#[must_use]
pub fn bytes(sbom: &Value) -> Vec<u8> {
    canonical::readable(sbom)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn lock() -> Lock {
        let integrity = format!(
            "sha512-{}",
            base64::engine::general_purpose::STANDARD.encode([7_u8; 64])
        );
        let lock = json!({"name": "mine", "lockfileVersion": 3, "packages": {
            "": {"dependencies": {"@acme/p": "1.0.0+b"}},
            "node_modules/@acme/p": {"version": "1.0.0+b", "integrity": integrity, "dependencies": {"q": "2", "gone": "1"}},
            "node_modules/q": {"version": "2.0.0", "integrity": integrity},
            "node_modules/gone": {"version": "1.0.0", "integrity": integrity, "optional": true},
        }});
        Lock::parse(lock.to_string().as_bytes(), "@acme/p", "1.0.0+b").unwrap()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, licence) in [("@acme/p", "MIT OR Apache-2.0"), ("q", "ISC")] {
            let package = folder.path().join("node_modules").join(path);
            std::fs::create_dir_all(&package).unwrap();
            let text = json!({ "license": licence }).to_string();
            std::fs::write(package.join("package.json"), text).unwrap();
        }
        folder
    }

    fn of(folder: &tempfile::TempDir, platforms: &[&str]) -> Tree {
        Tree {
            platforms: platforms.iter().map(|one| one.parse().unwrap()).collect(),
            folder: folder.path().to_owned(),
        }
    }

    fn sample() -> Value {
        let tree = tree();
        build(
            &Digest::of(b"x"),
            "@acme/p",
            "1.0.0+b",
            &lock(),
            &[of(&tree, &[])],
        )
        .unwrap()
    }

    #[test]
    fn every_entry_of_the_lock_is_a_component_and_nothing_else_is() {
        let sbom = sample();
        let told = sbom["components"].as_array().unwrap().iter().map(|c| {
            (
                c["purl"].as_str().unwrap(),
                c["scope"].as_str().unwrap(),
                c["licenses"].to_string(),
            )
        });
        let expression = r#"[{"expression":"MIT OR Apache-2.0"}]"#;
        assert_eq!(
            Vec::from_iter(told),
            [
                ("pkg:npm/%40acme/p@1.0.0%2Bb", "required", expression.into()),
                ("pkg:npm/gone@1.0.0", "excluded", "null".into()),
                (
                    "pkg:npm/q@2.0.0",
                    "required",
                    r#"[{"license":{"id":"ISC"}}]"#.into()
                ),
            ]
        );
        let content = sbom["components"][0]["hashes"][0]["content"]
            .as_str()
            .unwrap();
        assert_eq!(content, "07".repeat(64));
        assert_eq!(
            sbom["dependencies"][1],
            json!({"ref": "node_modules/@acme/p", "dependsOn": ["node_modules/gone", "node_modules/q"]})
        );
    }

    #[test]
    fn package_of_one_platform_names_it() {
        let (first, second) = (tree(), tree());
        std::fs::remove_dir_all(second.path().join("node_modules/q")).unwrap();
        let trees = [of(&first, &["linux/arm64"]), of(&second, &["linux/amd64"])];
        let sbom = build(&Digest::of(b"x"), "@acme/p", "1.0.0+b", &lock(), &trees).unwrap();
        let platform = |name: &str| json!({"name": PLATFORM, "value": name});
        let all = json!([platform("linux/amd64"), platform("linux/arm64")]);
        assert_eq!(sbom["metadata"]["component"]["properties"], all);
        let named = sbom["components"].as_array().unwrap().iter();
        let named: Vec<_> = named.map(|one| one["properties"].clone()).collect();
        let arm64 = json!([platform("linux/arm64")]);
        assert_eq!(named, [Value::Null, json!(null), arm64]);
        let scopes = sbom["components"].as_array().unwrap().iter();
        let scopes: Vec<_> = scopes.map(|one| one["scope"].as_str().unwrap()).collect();
        assert_eq!(scopes, ["required", "excluded", "required"]);
        let moved = [of(&second, &["linux/arm64"]), of(&first, &["linux/amd64"])];
        let moved = build(&Digest::of(b"x"), "@acme/p", "1.0.0+b", &lock(), &moved).unwrap();
        let why = check(&bytes(&moved), &sbom).unwrap_err();
        assert!(why.contains("`node_modules/q`: properties"), "{why}");
    }

    #[test]
    fn private_package_has_no_address() {
        let tree = tree();
        let path = tree.path().join("node_modules/q/package.json");
        std::fs::write(path, r#"{"private": true}"#).unwrap();
        let subject = Digest::of(b"x");
        let sbom = build(&subject, "@acme/p", "1.0.0+b", &lock(), &[of(&tree, &[])]).unwrap();
        let purls = sbom["components"].as_array().unwrap().iter();
        let purls: Vec<_> = purls.map(|one| one["purl"].is_string()).collect();
        assert_eq!(purls, [true, true, false]);
    }

    #[test]
    fn licences_are_told_as_far_as_they_are_known() {
        let told = |package_json: Value| {
            Value::from(licences(package_json.as_object().unwrap())).to_string()
        };
        assert_eq!(told(json!({})), "[]");
        assert_eq!(
            told(json!({"license": "SEE LICENSE IN terms.txt"})),
            r#"[{"license":{"name":"SEE LICENSE IN terms.txt"}}]"#
        );
        assert_eq!(
            told(json!({"license": {"type": "MIT"}})),
            r#"[{"license":{"id":"MIT"}}]"#
        );
        assert_eq!(
            told(json!({"licenses": [{"type": "MIT"}, "mine", 7]})),
            r#"[{"license":{"id":"MIT"}},{"license":{"name":"mine"}}]"#
        );
        assert_eq!(told(json!({"license": "x".repeat(201)})), "[]");
    }

    #[test]
    fn difference_is_named() {
        let wanted = sample();
        let refusal = |change: &dyn Fn(&mut Value)| {
            let mut found = wanted.clone();
            change(&mut found);
            check(&bytes(&found), &wanted).unwrap_err()
        };
        assert_eq!(check(&bytes(&wanted), &wanted), Ok(()));
        let why = refusal(&|sbom| sbom["components"][2]["version"] = "2.0.1".into());
        assert_eq!(
            why,
            r#"components: `node_modules/q`: version is "2.0.1", wanted "2.0.0""#
        );
        let why = refusal(&|sbom| {
            sbom["components"].as_array_mut().unwrap().remove(1);
        });
        assert_eq!(why, "components: `node_modules/gone` is missing");
        let why = refusal(&|sbom| {
            let extra = json!({"bom-ref": "node_modules/evil"});
            sbom["components"].as_array_mut().unwrap().push(extra);
        });
        assert_eq!(
            why,
            "components: `node_modules/evil` is not in the artifact"
        );
        let why = refusal(&|sbom| sbom["dependencies"][1]["dependsOn"] = json!([]));
        assert!(
            why.starts_with("dependencies: `node_modules/@acme/p`"),
            "{why}"
        );
    }
}
