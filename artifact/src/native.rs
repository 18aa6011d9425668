//! Native addons must be for the CPU and the C library of the nodes: Node finds out only when
//! the worker starts, and then says little.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use paperclip_artifact_format::platform::Platform;

use crate::tree::{Entry, Kind};

/// What Node loads by itself ends in this.
const ADDON: &str = ".node";
/// `e_machine` of the ELF header: the System V ABI's numbers of the CPUs that Node runs on.
const MACHINES: [(u16, &str); 6] = [
    (0x03, "ia32"),
    (0x3e, "x64"),
    (0x28, "arm"),
    (0xb7, "arm64"),
    (0x15, "ppc64"),
    (0x16, "s390x"),
];
/// The C library of musl, as a program that needs it names it.
const MUSL: &[u8] = b"libc.musl-";

/// Why the addons of a package do not fit.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// None of them is for this platform.
    #[error("{package}: its native addon {file} is {found}, wanted Linux/{wanted}")]
    Foreign {
        /// Folder of the package.
        package: String,
        /// One of them.
        file: String,
        /// What it is for.
        found: String,
        /// CPU and C library that it must be for.
        wanted: String,
    },
    /// One could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Checks that each package that brings native addons brings one for this platform. Those for
/// others beside it are how many packages are published, and are never loaded.
///
/// # Errors
/// Names the first package without one.
pub fn check(root: &Path, entries: &[Entry], platform: &Platform) -> Result<(), NativeError> {
    let mut addons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in entries {
        if matches!(entry.kind, Kind::File { .. }) && entry.path.ends_with(ADDON) {
            let package = package_of(&entry.path);
            addons.entry(package).or_default().push(&entry.path);
        }
    }
    let wanted = format!("{} {}", platform.cpu, platform.libc);
    for (package, files) in addons {
        let mut foreign = None;
        for file in files {
            let found = read(&root.join(file))?;
            if found == wanted {
                foreign = None;
                break;
            }
            foreign.get_or_insert((file, found));
        }
        if let Some((file, found)) = foreign {
            return Err(NativeError::Foreign {
                package: package.to_owned(),
                file: file[package.len()..].trim_start_matches('/').to_owned(),
                found,
                wanted,
            });
        }
    }
    Ok(())
}

/// The folder below the innermost `node_modules`, with its scope.
fn package_of(path: &str) -> &str {
    const MODULES: &str = "node_modules/";
    let start = path.rfind(MODULES).map_or(0, |at| at + MODULES.len());
    let parts = if path[start..].starts_with('@') { 2 } else { 1 };
    let length: usize = path[start..]
        .split_inclusive('/')
        .take(parts)
        .map(str::len)
        .sum();
    path[..start + length].trim_end_matches('/')
}

fn read(path: &Path) -> Result<String, NativeError> {
    let failed = |source| NativeError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut content = Vec::new();
    // The walk of the tarball has bounded the file.
    file.read_to_end(&mut content).map_err(failed)?;
    Ok(describe(&content))
}

/// CPU and C library of a program, or what it is instead.
fn describe(content: &[u8]) -> String {
    let header = content
        .get(..20)
        .filter(|header| header.starts_with(b"\x7fELF"));
    let Some(header) = header else {
        return match content {
            [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "for macOS",
            [b'M', b'Z', ..] => "for Windows",
            _ => "no program",
        }
        .to_owned();
    };
    // Byte 5 says which end comes first.
    let machine = [header[18], header[19]];
    let machine = match header[5] {
        2 => u16::from_be_bytes(machine),
        _ => u16::from_le_bytes(machine),
    };
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    let cpu = known.map_or_else(|| format!("CPU {machine:#x}"), |(_, cpu)| (*cpu).to_owned());
    let is_musl = memchr::memmem::find(content, MUSL).is_some();
    format!("{cpu} {}", if is_musl { "musl" } else { "glibc" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use paperclip_oci::Digest;

    fn elf(machine: u16, more: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(18, 0);
        bytes.extend(machine.to_le_bytes());
        bytes.extend(more);
        bytes
    }

    fn checked(files: &[(&str, Vec<u8>)]) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let entries = tree::list(root.path(), tree::LIMITS).unwrap();
        let checked = check(root.path(), &entries, &Platform::default());
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn a_package_with_an_addon_for_us_may_bring_others_beside_it() {
        let files = [
            (
                "node_modules/a/prebuilds/darwin/a.node",
                b"\xcf\xfa\xed\xfe".to_vec(),
            ),
            (
                "node_modules/a/prebuilds/linux-arm64/a.node",
                elf(0xb7, b""),
            ),
            (
                "node_modules/a/prebuilds/linux-x64/a.node",
                elf(0x3e, b"libc.so.6"),
            ),
        ];
        assert_eq!(checked(&files), Ok(()));
    }

    #[test]
    fn an_addon_for_another_cpu_or_library_is_refused_by_package_and_file() {
        let of = |content| checked(&[("node_modules/@s/a/build/a.node", content)]).unwrap_err();
        let said = of(elf(0xb7, b""));
        let wanted = "node_modules/@s/a: its native addon build/a.node is arm64 glibc, wanted Linux/x64 glibc";
        assert_eq!(said, wanted);
        assert!(of(elf(0x3e, b"libc.musl-x86_64.so.1")).contains("x64 musl"));
        assert!(of(b"MZ".to_vec()).contains("for Windows"));
        assert!(of(Vec::new()).contains("no program"));
    }

    #[test]
    fn each_package_counts_for_itself() {
        let files = [
            ("node_modules/a/a.node", elf(0x3e, b"")),
            ("node_modules/a/node_modules/b/b.node", elf(0xb7, b"")),
        ];
        assert!(
            checked(&files)
                .unwrap_err()
                .starts_with("node_modules/a/node_modules/b:")
        );
        let entry = Entry {
            path: "node_modules/@s/b/x/y.node".into(),
            kind: Kind::File {
                executable: false,
                digest: Digest::of(b""),
                size: 0,
            },
        };
        assert_eq!(package_of(&entry.path), "node_modules/@s/b");
    }
}
