//! Packages that no author's npm would publish: each is refused by the name of the rule it
//! breaks, and leaves nothing in the store.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tar::{Builder, EntryType, Header};

use crate::support::{COLD, HOST_NAMESPACE, Namespace, cluster, eventually, get};

const VERSION: &str = "1.0.0";

/// One poison, and what must be said of it.
struct Poison {
    name: &'static str,
    /// What the message must hold: the rule, the entry.
    says: &'static [&'static str],
    tarball: fn(&mut Builder<Vec<u8>>) -> Result<()>,
    /// What becomes of the tarball's bytes on the way.
    bytes: fn(Vec<u8>) -> Vec<u8>,
    /// What the registry says of it, beside where it is.
    dist: fn(&[u8]) -> Value,
    /// More fields of `package.json`.
    manifest: fn() -> Value,
    /// Code of the plugin manifest, which has the sound one as `plugin`.
    code: &'static str,
    /// The reason of `Stalled`.
    reason: &'static str,
}

impl Poison {
    /// A package that is sound apart from these entries.
    const fn entries(
        name: &'static str,
        says: &'static [&'static str],
        tarball: fn(&mut Builder<Vec<u8>>) -> Result<()>,
    ) -> Self {
        Self {
            name,
            says,
            tarball,
            bytes: |bytes| bytes,
            dist: honest,
            manifest: || json!({}),
            code: "export default plugin;",
            reason: "PackageRefused",
        }
    }

    /// A package whose plugin manifest is hostile code.
    const fn code(name: &'static str, says: &'static [&'static str], code: &'static str) -> Self {
        Self {
            code,
            reason: "ManifestInvalid",
            ..Self::entries(name, says, |_| Ok(()))
        }
    }

    fn package(&self) -> String {
        format!("paperclip-plugin-poison-{}", self.name)
    }

    fn publish(&self) -> Result<()> {
        let package = self.package();
        let mut manifest = json!({
            "name": package, "version": VERSION, "type": "module",
            "paperclipPlugin": {"manifest": "./manifest.js", "worker": "./worker.js"},
        });
        let more = (self.manifest)();
        let fields = manifest.as_object_mut().context("an object")?;
        fields.extend(more.as_object().cloned().unwrap_or_default());
        let mut archive = Builder::new(Vec::new());
        file(
            &mut archive,
            "package/package.json",
            manifest.to_string().as_bytes(),
        )?;
        let plugin = json!({
            "id": format!("poison.{}", self.name), "apiVersion": 1, "version": VERSION,
            "displayName": "Poison", "description": "Poison.", "author": "Nobody",
            "categories": ["automation"], "capabilities": ["agent.tools.register"],
            "entrypoints": {"worker": "./worker.js"},
        });
        // Imports go before all else, wherever they are written.
        let plugin = format!("const plugin = {plugin};\n{}\n", self.code);
        file(&mut archive, "package/manifest.js", plugin.as_bytes())?;
        file(&mut archive, "package/worker.js", b"process.exit(1);")?;
        (self.tarball)(&mut archive)?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut packed, &archive.into_inner()?)?;
        let whole = packed.finish()?;
        let dist = (self.dist)(&whole);
        let tarball = (self.bytes)(whole);
        let published = cluster().npm().publish_raw(&manifest, &tarball, &dist);
        published.with_context(|| format!("publish {package}"))
    }
}

/// What a registry says of bytes that it knows.
fn honest(bytes: &[u8]) -> Value {
    let hash = BASE64_STANDARD.encode(Sha512::digest(bytes));
    json!({"integrity": format!("sha512-{hash}")})
}

/// What registries of old said of bytes. No library for it is left among ours.
fn sha1(bytes: &[u8]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    let output = Command::new("sha1sum").arg(file.path()).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.split(' ').next().context("a hash")?.to_owned())
}

/// An entry whose name no library would write.
fn raw(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    if size == 0 {
        archive.append(&header, std::io::empty())?;
    }
    Ok(header)
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) -> Result<()> {
    let header = raw(archive, name, EntryType::Regular, content.len() as u64)?;
    Ok(archive.append(&header, content)?)
}

fn link(archive: &mut Builder<Vec<u8>>, kind: EntryType, target: &str) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_path("package/link")?;
    header.set_entry_type(kind);
    header.set_link_name_literal(target)?;
    header.set_size(0);
    header.set_cksum();
    Ok(archive.append(&header, std::io::empty())?)
}

/// A file that says it is larger than any may be. What is behind it does not matter.
fn giant(archive: &mut Builder<Vec<u8>>) -> Result<()> {
    let size = 400 * 1024 * 1024;
    let header = raw(archive, "package/zeros", EntryType::Regular, size)?;
    Ok(archive.append(&header, std::io::empty())?)
}

/// An extended header that says another size than the file's own.
fn other_size(archive: &mut Builder<Vec<u8>>) -> Result<()> {
    let record = b"13 size=9999\n";
    let header = raw(
        archive,
        "package/pax",
        EntryType::XHeader,
        record.len() as u64,
    )?;
    archive.append(&header, record.as_slice())?;
    file(archive, "package/short", b"short")
}

fn poisons() -> Vec<Poison> {
    let entries = Poison::entries;
    vec![
        entries("parent", &["parent-path", "escaped"], |archive| {
            file(archive, "package/../../../escaped", b"x")
        }),
        entries("absolute", &["absolute-path", "/escaped"], |archive| {
            file(archive, "/escaped", b"x")
        }),
        entries("symlink", &["link", "package/link"], |archive| {
            link(archive, EntryType::Symlink, "/etc/passwd")
        }),
        entries("hardlink", &["link", "package/link"], |archive| {
            link(archive, EntryType::Link, "../../etc/passwd")
        }),
        entries("device", &["device", "package/zero"], |archive| {
            raw(archive, "package/zero", EntryType::Char, 0).map(drop)
        }),
        entries("case", &["case-collision"], |archive| {
            file(archive, "package/Readme", b"x")?;
            file(archive, "package/README", b"y")
        }),
        entries("pax", &["pax-size"], other_size),
        entries("giant", &["file-size", "package/zeros"], giant),
        entries("many", &["file-count"], |archive| {
            (0..100_000).try_for_each(|number| {
                raw(archive, &format!("package/{number}"), EntryType::Regular, 0).map(drop)
            })
        }),
        entries(
            "addon",
            &["native addon", "addon.node", "arm64"],
            |archive| {
                let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
                elf.resize(18, 0);
                elf.extend([0xb7, 0]);
                file(archive, "package/build/addon.node", &elf)
            },
        ),
        Poison {
            bytes: |mut bytes| {
                bytes.truncate(bytes.len() / 2);
                bytes
            },
            dist: |bytes| honest(&bytes[..bytes.len() / 2]),
            ..entries("truncated", &["truncated"], |_| Ok(()))
        },
        Poison {
            dist: |_| honest(b"other bytes"),
            ..entries("integrity", &["integrity"], |_| Ok(()))
        },
        Poison {
            dist: |bytes| json!({"shasum": sha1(bytes).unwrap_or_default()}),
            ..entries("weak", &["sha512"], |_| Ok(()))
        },
        Poison {
            manifest: || json!({"dependencies": {"left": "git+https://example.com/left.git"}}),
            ..entries("git", &["left"], |_| Ok(()))
        },
        Poison {
            manifest: || json!({"dependencies": {"left": "file:../left"}}),
            ..entries("file", &["left"], |_| Ok(()))
        },
    ]
}

/// Plugin manifests that do what a manifest has no business to do.
fn hostile_code() -> Vec<Poison> {
    let code = Poison::code;
    vec![
        code("loop", &["manifest.js", "no end after 10 s"], "for (;;) {}"),
        code(
            "memory",
            &["manifest.js", "Failed to allocate memory"],
            "const all = []; for (;;) all.push(Buffer.alloc(64 << 20, 1));",
        ),
        code(
            "reads",
            &["manifest.js", "EACCES"],
            "import { readFileSync } from 'node:fs'; readFileSync('/etc/passwd'); export default plugin;",
        ),
        code(
            "credential",
            &["manifest.js", "/etc/paperclip"],
            "import { readdirSync } from 'node:fs'; readdirSync('/etc/paperclip'); export default plugin;",
        ),
        code(
            "socket",
            &["manifest.js", "ENOSYS"],
            "import { connect } from 'node:net'; await new Promise((yes, no) => connect(53, '127.0.0.1')             .on('connect', yes).on('error', no)); export default plugin;",
        ),
        code(
            "fork",
            &["manifest.js", "spawnSync"],
            "import { execFileSync } from 'node:child_process'; execFileSync(process.execPath, ['-v']);             export default plugin;",
        ),
        code(
            "chance",
            &["another each time"],
            "plugin.description = String(Math.random()); export default plugin;",
        ),
        code(
            "flood",
            &["printed more than"],
            "import { writeSync } from 'node:fs'; const much = Buffer.alloc(1 << 20, 120);             for (let n = 0; n < 100; n += 1) writeSync(1, much); export default plugin;",
        ),
    ]
}

/// Repositories of the store that hold anything, by their folder.
pub fn catalogue() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(cluster().dir().join("volumes")) {
        let entry = entry?;
        if entry.file_type().is_dir() && entry.path().ends_with("_manifests/revisions") {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_poisoned_package_is_refused_by_name_and_leaves_nothing() -> Result<()> {
    let mut poisons = poisons();
    poisons.extend(hostile_code());
    for poison in &poisons {
        poison.publish()?;
    }
    let before = catalogue()?;
    let namespace = Namespace::create("e2e-poison")?;
    let plugins: Vec<String> = poisons
        .iter()
        .map(|poison| {
            json!({
                "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
                "metadata": {"name": poison.name},
                "spec": {
                    "source": {"npm": {"package": poison.package(), "version": VERSION}},
                    "host": {"name": "main", "namespace": HOST_NAMESPACE},
                },
            })
            .to_string()
        })
        .collect();
    namespace.apply(&plugins.join("\n---\n"))?;
    let mut wrong = Vec::new();
    for poison in &poisons {
        if let Err(error) = refused(&namespace, poison, COLD) {
            wrong.push(format!("{}: {error:#}", poison.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(catalogue()? == before, "the store holds {:?}", catalogue()?);
    Ok(())
}

fn refused(namespace: &Namespace, poison: &Poison, patience: Duration) -> Result<()> {
    eventually("the refusal", patience, || {
        let plugin = get(&["paperclipplugin", poison.name, "-n", namespace.name()])?;
        let conditions = plugin["status"]["conditions"].as_array();
        let stalled = conditions
            .and_then(|all| all.iter().find(|one| one["type"] == "Stalled"))
            .with_context(|| plugin["status"].to_string())?;
        ensure!(stalled["reason"] == poison.reason, "{stalled}");
        let says = stalled["message"].as_str().unwrap_or_default();
        for words in poison.says {
            ensure!(says.contains(words), "{words:?} is not in {says:?}");
        }
        Ok(())
    })
}
