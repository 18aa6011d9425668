//! Lengths of functions, in lines from the brace that opens the body to the one that closes it.

use std::path::PathBuf;

use proc_macro2::Span;
use syn::{
    Block, ImplItemFn, ItemFn, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::Crate;

/// One function with a body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Lines of its body, both braces included; an empty body on one line counts 1.
    pub lines: usize,
    /// File it stands in.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
}

/// Every function of these crates, shortest first.
pub fn functions(crates: &[Crate]) -> Vec<Function> {
    let mut all: Vec<Function> = crates
        .iter()
        .flat_map(|package| &package.files)
        .flat_map(|file| {
            let mut found = Found::default();
            file.items.iter().for_each(|item| found.visit_item(item));
            found.0.into_iter().map(|(name, lines)| Function {
                lines,
                file: file.path.clone(),
                name,
            })
        })
        .collect();
    all.sort();
    all
}

#[derive(Default)]
struct Found(Vec<(String, usize)>);

impl Found {
    fn add(&mut self, name: &syn::Ident, body: &Block) {
        self.0.push((name.to_string(), lines_of(body.span())));
    }
}

fn lines_of(span: Span) -> usize {
    span.end().line - span.start().line + 1
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig.ident, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_counted_from_brace_to_brace() {
        let file =
            syn::parse_file("fn a() {}\nimpl A {\n fn b() {\n  1\n }\n}\ntrait T { fn c(); }")
                .unwrap();
        let mut found = Found::default();
        found.visit_file(&file);
        assert_eq!(found.0, [("a".to_owned(), 1), ("b".to_owned(), 3)]);
    }
}
