//! The provenance of an artifact: an in-toto statement with a SLSA v1 predicate.
//!
//! It names every input that decides the artifact's bytes, and the registry, which does
//! not. It holds no time and no name of a machine, so that equal inputs give equal bytes
//! wherever they are packed. It is not signed: who trusts it trusts the store.

use paperclip_artifact_format::names;
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde_json::{Value, json};

use crate::inputs::{CONFIG_MAP, Inputs, PACKER};
use crate::integrity;
use crate::sbom::purl;
use crate::toolchain;

/// Media type of the statement, and artifact type of its referrer.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// Type of the statement.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of the predicate.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How an artifact comes from its inputs: `docs/design` tells, under "Artifact".
pub const BUILD_TYPE: &str = "https://plugins.paperclip.ing/build/v1";
/// Who built it: the packer of this project, in a packing Job or on a laptop alike.
pub const BUILDER: &str = "https://plugins.paperclip.ing/packer";

/// The provenance of the artifact `subject`, which was packed from these inputs and a lock.
#[must_use]
pub fn build(subject: &Digest, inputs: &Inputs, lock_digest: &Digest) -> Vec<u8> {
    let Inputs {
        registry,
        package,
        version,
        integrity,
        platforms,
        // Whose credential it was is nobody else's affair.
        owner: _,
    } = inputs;
    canonical::readable(&json!({
        "_type": STATEMENT_TYPE,
        "subject": [{
            "name": format!("{package}@{version}"),
            "digest": { "sha256": subject.hex() },
        }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "registry": registry,
                    "package": package,
                    "version": version,
                    "platforms": platforms.iter().collect::<Vec<_>>(),
                },
                "resolvedDependencies": [
                    content(registry, package, version, integrity),
                    { "name": names::fact(names::LOCK), "digest": { "sha256": lock_digest.hex() } },
                    tool(toolchain::NODE_PACKAGE, toolchain::NODE_VERSION, toolchain::NODE_INTEGRITY),
                    tool("npm", toolchain::NPM_VERSION, toolchain::NPM_INTEGRITY),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {
                        "packer": PACKER,
                        "node": toolchain::NODE_VERSION,
                        "npm": toolchain::NPM_VERSION,
                    },
                },
            },
        },
    }))
}

/// A tarball of Node or npm, which come from a registry whatever is packed with them.
fn tool(package: &str, version: &str, integrity: &str) -> Value {
    content("", package, version, integrity)
}

/// A tarball of a registry; without an address where it is a plugin of one file.
fn content(registry: &str, package: &str, version: &str, integrity: &str) -> Value {
    let sha512 = integrity::sha512(integrity).map(hex::encode);
    let mut content = json!({ "name": package, "digest": { "sha512": sha512 } });
    if registry != CONFIG_MAP {
        content["uri"] = purl(package, version).into();
    }
    content
}

/// What an artifact itself says, for its provenance to agree with.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Digest of the artifact.
    pub subject: &'a Digest,
    /// Name of the package.
    pub package: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Integrity of its tarball, from the lock.
    pub integrity: &'a str,
    /// Digest of the lock.
    pub lock_digest: &'a Digest,
    /// Platforms it is for; none where it runs on every one.
    pub platforms: &'a [Platform],
}

/// Checks that a statement is a provenance of this artifact and names what it is made of.
///
/// # Errors
/// Names the first field that differs, what was found and what is wanted.
pub fn check(statement: &[u8], facts: &Facts<'_>) -> Result<(), String> {
    let found: Value =
        serde_json::from_slice(statement).map_err(|e| format!("it is no JSON: {e}"))?;
    let definition = &found["predicate"]["buildDefinition"];
    let parameters = &definition["externalParameters"];
    let wanted = [
        ("_type", &found["_type"], json!(STATEMENT_TYPE)),
        (
            "predicateType",
            &found["predicateType"],
            json!(PREDICATE_TYPE),
        ),
        (
            "subject",
            &found["subject"][0]["digest"]["sha256"],
            json!(facts.subject.hex()),
        ),
        ("buildType", &definition["buildType"], json!(BUILD_TYPE)),
        ("package", &parameters["package"], json!(facts.package)),
        ("version", &parameters["version"], json!(facts.version)),
    ];
    for (field, found, wanted) in wanted {
        if *found != wanted {
            return Err(format!("its {field} is {found:.200}, wanted {wanted}"));
        }
    }
    if found["subject"]
        .as_array()
        .is_none_or(|subjects| subjects.len() != 1)
    {
        return Err("it has other subjects too, wanted the artifact alone".into());
    }
    let asked = parameters["platforms"].as_array();
    for platform in facts.platforms {
        if asked.is_none_or(|asked| !asked.contains(&json!(platform))) {
            let found = &parameters["platforms"];
            return Err(format!(
                "its platforms are {found:.300}, wanted {platform} too"
            ));
        }
    }
    let lock = json!({ "sha256": facts.lock_digest.hex() });
    let sha512 = integrity::sha512(facts.integrity).map(hex::encode);
    let tarball = json!({ "sha512": sha512 });
    for (name, wanted) in [(facts.package, tarball), (&*names::fact(names::LOCK), lock)] {
        let dependencies = definition["resolvedDependencies"].as_array();
        let dependency = dependencies
            .into_iter()
            .flatten()
            .find(|dependency| dependency["name"] == name);
        let found = dependency.map_or(&Value::Null, |dependency| &dependency["digest"]);
        if *found != wanted {
            return Err(format!(
                "its digest of {name} is {found:.200}, wanted {wanted}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_artifact_format::platform::Platforms;

    fn inputs() -> Inputs {
        Inputs {
            registry: "https://registry.example/".into(),
            package: "@acme/p".into(),
            version: "1.2.3".into(),
            integrity: toolchain::NPM_INTEGRITY.into(),
            platforms: Platforms::default(),
            owner: None,
        }
    }

    #[test]
    fn plugin_of_one_file_is_in_no_registry() {
        let one_file = Inputs {
            registry: CONFIG_MAP.into(),
            ..inputs()
        };
        let statement = build(&Digest::of(b"image"), &one_file, &Digest::of(b"lock"));
        let statement: Value = serde_json::from_slice(&statement).unwrap();
        let made_of = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(made_of[0]["uri"], Value::Null);
        assert!(made_of[0]["digest"]["sha512"].is_string());
        assert_eq!(
            made_of[3]["uri"],
            format!("pkg:npm/npm@{}", toolchain::NPM_VERSION)
        );
    }

    #[test]
    fn statement_agrees_with_its_artifact_and_with_no_other() {
        let (subject, lock) = (Digest::of(b"image"), Digest::of(b"lock"));
        let statement = build(&subject, &inputs(), &lock);
        assert_eq!(statement, build(&subject, &inputs(), &lock));
        let facts = Facts {
            subject: &subject,
            package: "@acme/p",
            version: "1.2.3",
            integrity: toolchain::NPM_INTEGRITY,
            lock_digest: &lock,
            platforms: &[Platform::default()],
        };
        assert_eq!(check(&statement, &facts), Ok(()));
        let other = Digest::of(b"other");
        let refused = [
            (
                "its subject is",
                Facts {
                    subject: &other,
                    ..facts
                },
            ),
            (
                "its platforms are",
                Facts {
                    platforms: &["linux/arm64".parse().unwrap()],
                    ..facts
                },
            ),
            (
                "its package is",
                Facts {
                    package: "p",
                    ..facts
                },
            ),
            (
                "its version is",
                Facts {
                    version: "1.2.4",
                    ..facts
                },
            ),
            (
                "its digest of @acme/p",
                Facts {
                    integrity: toolchain::NODE_INTEGRITY,
                    ..facts
                },
            ),
            (
                "its digest of .paperclip/package-lock.json",
                Facts {
                    lock_digest: &other,
                    ..facts
                },
            ),
        ];
        for (wanted, facts) in refused {
            let why = check(&statement, &facts).unwrap_err();
            assert!(why.starts_with(wanted), "{why}");
        }
    }
}
