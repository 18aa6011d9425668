//! Source files of what ships, parsed, each with its place in the module tree of its crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use syn::{Attribute, Item};
use walkdir::WalkDir;

/// One package of the workspace.
pub struct Crate {
    /// Folder of its `Cargo.toml`, relative to the repository.
    pub folder: PathBuf,
    /// Its files, in the order of their paths.
    pub files: Vec<File>,
}

/// One parsed source file.
pub struct File {
    /// Path relative to the repository.
    pub path: PathBuf,
    /// Path of its module from the root of the crate; empty for the root itself.
    pub module: Vec<String>,
    /// Its items, test modules and test functions left out.
    pub items: Vec<Item>,
}

/// Every crate that ships, with its files.
///
/// # Errors
/// Fails when a file cannot be read or is no Rust.
pub fn shipped(repository: &Path) -> Result<Vec<Crate>> {
    let mut folders: Vec<PathBuf> = WalkDir::new(repository)
        .into_iter()
        .filter_entry(|entry| !is_left_out(repository, entry.path()))
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name() == "Cargo.toml" && entry.path().with_file_name("src").is_dir()
        })
        .filter_map(|entry| entry.path().parent().map(Path::to_owned))
        .collect();
    folders.sort();
    folders
        .iter()
        .map(|folder| read_crate(repository, folder))
        .collect()
}

/// Folders without anything that ships.
fn is_left_out(repository: &Path, path: &Path) -> bool {
    let relative = path.strip_prefix(repository).unwrap_or(path);
    let name = relative.file_name().unwrap_or_default().to_string_lossy();
    matches!(&*name, "tests" | "examples" | "target" | "node_modules") || name.starts_with('.')
}

fn read_crate(repository: &Path, folder: &Path) -> Result<Crate> {
    let source = folder.join("src");
    let mut paths: Vec<PathBuf> = WalkDir::new(&source)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    paths.sort();
    let files = paths
        .iter()
        .map(|path| read_file(repository, &source, path))
        .collect::<Result<_>>()?;
    Ok(Crate {
        folder: folder.strip_prefix(repository)?.to_owned(),
        files,
    })
}

fn read_file(repository: &Path, source: &Path, path: &Path) -> Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let parsed = syn::parse_file(&text).with_context(|| format!("parse {}", path.display()))?;
    Ok(File {
        path: path.strip_prefix(repository)?.to_owned(),
        module: module_path(path.strip_prefix(source)?),
        items: parsed
            .items
            .into_iter()
            .filter(|item| !is_test(attributes(item)))
            .collect(),
    })
}

/// `a/mod.rs` and `a.rs` are module `a`; `lib.rs` and `main.rs` are the root.
fn module_path(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let is_folder_itself = match parts.as_slice() {
        [only] => only == "lib" || only == "main",
        [.., last] => last == "mod",
        [] => false,
    };
    if is_folder_itself {
        parts.pop();
    }
    parts
}

/// Attributes of an item, of the kinds that can be tests or hold them.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[test]`, `#[tokio::test]` and `#[cfg(test)]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let names_test = path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test");
        names_test
            || path.is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|only| only.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_after_its_file_or_its_folder() {
        assert_eq!(module_path(Path::new("lib.rs")), Vec::<String>::new());
        assert_eq!(module_path(Path::new("a.rs")), ["a"]);
        assert_eq!(module_path(Path::new("a/mod.rs")), ["a"]);
        assert_eq!(module_path(Path::new("a/b.rs")), ["a", "b"]);
    }

    #[test]
    fn tests_are_left_out() {
        let file =
            syn::parse_file("#[test] fn a() {} #[cfg(test)] mod tests {} fn b() {}").unwrap();
        let kept: Vec<_> = file
            .items
            .iter()
            .filter(|item| !is_test(attributes(item)))
            .collect();
        assert_eq!(kept.len(), 1);
    }
}
