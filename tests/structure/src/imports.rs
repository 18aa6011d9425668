//! Files of a crate that import each other, found by the paths that their code names.
//!
//! A path that begins with `crate`, `super`, `self` or a module below leads to the file of
//! the longest module that it names. What a module takes from one above it counts for
//! nothing, so that parent and child may know each other; all else makes no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Macro, Path, UseTree,
    visit::{self, Visit},
};

use crate::{Crate, File};

/// Files of one circle, in the order of their paths.
pub type Circle = Vec<PathBuf>;

/// Every circle of files of a crate, of parent and child alone aside.
pub fn circles(package: &Crate) -> Vec<Circle> {
    let edges = edges(package);
    let reach: Vec<BTreeSet<usize>> = (0..package.files.len())
        .map(|from| reachable(&edges, from))
        .collect();
    let mut found = BTreeSet::new();
    for (from, targets) in reach.iter().enumerate() {
        let circle: Circle = targets
            .iter()
            .filter(|to| reach[**to].contains(&from))
            .map(|to| package.files[*to].path.clone())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Files that a walk along the edges comes to, the first only where it is come back to.
fn reachable(edges: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<usize> = edges[from].iter().copied().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(&edges[file]);
        }
    }
    seen
}

/// For each file of the crate, the files it imports that do not stand above it.
fn edges(package: &Crate) -> Vec<BTreeSet<usize>> {
    let by_module: Modules<'_> = package
        .files
        .iter()
        .enumerate()
        .map(|(number, file)| (file.module.as_slice(), number))
        .collect();
    package
        .files
        .iter()
        .map(|file| {
            named_paths(file, &by_module)
                .iter()
                .filter_map(|path| file_of(&by_module, path))
                .filter(|target| !file.module.starts_with(&package.files[*target].module))
                .collect()
        })
        .collect()
}

type Modules<'a> = BTreeMap<&'a [String], usize>;

fn file_of(by_module: &Modules<'_>, path: &[String]) -> Option<usize> {
    (1..=path.len())
        .rev()
        .find_map(|length| by_module.get(&path[..length]).copied())
}

/// Paths within the crate that a file names, from the crate's root.
fn named_paths(file: &File, by_module: &Modules<'_>) -> Vec<Vec<String>> {
    let mut paths = Paths::default();
    file.items.iter().for_each(|item| paths.visit_item(item));
    paths
        .0
        .iter()
        .filter_map(|path| absolute(&file.module, path, by_module))
        .collect()
}

fn absolute(module: &[String], path: &[String], by_module: &Modules<'_>) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (base, named) = match path.first()?.as_str() {
        "crate" => (&[][..], 1),
        "self" => (module, 1),
        "super" => (module.get(..module.len().checked_sub(ups)?)?, ups),
        child => {
            let below = [module, &[child.to_owned()]].concat();
            (
                by_module.contains_key(below.as_slice()).then_some(module)?,
                0,
            )
        }
    };
    Some([base, &path[named..]].concat())
}

#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        match tree {
            UseTree::Path(path) => self.add_tree(&joined(prefix, &path.ident), &path.tree),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.add_tree(prefix, tree)),
            UseTree::Name(name) => self.0.push(joined(prefix, &name.ident)),
            UseTree::Rename(name) => self.0.push(joined(prefix, &name.ident)),
            UseTree::Glob(_) => self.0.push(prefix.to_vec()),
        }
    }

    /// Paths in the arguments of a macro, which are tokens and no syntax yet.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.0.push(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.0.push(std::mem::take(&mut path));
                }
            }
        }
        self.0.push(path);
    }
}

fn joined(prefix: &[String], ident: &syn::Ident) -> Vec<String> {
    [prefix, &[ident.to_string()]].concat()
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.0.push(
            path.segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect(),
        );
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(module: &[&str], text: &str) -> File {
        File {
            path: module.join("/").into(),
            module: module.iter().map(|part| (*part).to_owned()).collect(),
            items: syn::parse_file(text).unwrap().items,
        }
    }

    fn circles_of(files: Vec<File>) -> Vec<Circle> {
        let folder = PathBuf::new();
        circles(&Crate { folder, files })
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let a = file(&["a"], "use crate::b::{self, Thing};");
        let b = file(&["b"], "fn f() { super::a::g() }");
        assert_eq!(
            circles_of(vec![a, b]),
            [[PathBuf::from("a"), PathBuf::from("b")]]
        );
    }

    #[test]
    fn a_longer_way_round_is_a_circle_too() {
        let a = file(&["a"], "use crate::b::Thing;");
        let b = file(
            &["b"],
            "fn f() { tokio::select! { _ = crate::c::wait() => {} } }",
        );
        let c = file(&["c"], "type A = super::a::A;");
        assert_eq!(circles_of(vec![a, b, c])[0].len(), 3);
    }

    #[test]
    fn parent_and_child_may_know_each_other() {
        let parent = file(&["a"], "pub use self::b::Thing;");
        let child = file(&["a", "b"], "use super::Other; use crate::a::More;");
        assert!(circles_of(vec![parent, child]).is_empty());
    }

    #[test]
    fn a_circle_through_a_child_is_one() {
        let parent = file(&["a"], "fn f() { b::g() }");
        let child = file(&["a", "b"], "use crate::c::Thing;");
        let other = file(&["c"], "use crate::a::f;");
        assert_eq!(circles_of(vec![parent, child, other])[0].len(), 3);
    }
}
