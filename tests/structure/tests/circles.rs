//! Files do not import each other in circles, parent and child aside.

use std::{collections::BTreeSet, path::PathBuf};

use paperclip_structure::{imports, repository, shipped};

/// Files that still stand in a circle, by the folder of their crate. The trunks of the operator
/// and of the host are to be rebuilt; the two pairs are to be untied.
const EXCEPTED: &[(&str, usize)] = &[("artifact", 2), ("cli", 2), ("host", 21), ("operator", 26)];

#[test]
fn no_file_imports_another_in_a_circle() {
    let crates = shipped(&repository().unwrap()).unwrap();
    let mut wrong = Vec::new();
    for package in &crates {
        let circles = imports::circles(package);
        let files: BTreeSet<&PathBuf> = circles.iter().flatten().collect();
        let folder = package.folder.display().to_string();
        let excepted = EXCEPTED
            .iter()
            .find(|(name, _)| *name == folder)
            .map_or(0, |(_, count)| *count);
        if files.len() != excepted {
            wrong.push(format!(
                "{folder}: {} files in circles, {excepted} excepted: {circles:#?}",
                files.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
