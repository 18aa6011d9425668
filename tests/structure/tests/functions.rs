//! Functions read in one glance.

use paperclip_structure::{
    Crate,
    functions::{Function, functions},
    repository, shipped,
};

/// The longest body, in lines.
const LONGEST: usize = 80;
/// Half of a crate's functions are at most this long, in lines.
const MEDIAN: usize = 8;
/// Nine in ten of a crate's functions are at most this long, in lines.
const NINE_IN_TEN: usize = 25;

/// Functions that are longer than a screen, until they are cut: file, name.
const LONG: &[(&str, &str)] = &[("operator/src/plugin/reconcile.rs", "bring_about")];

/// Crates whose functions are longer than wanted, until they are cut: folder, median, nine in
/// ten. What grows beyond its figure fails, and so does a figure that is no longer needed.
const LONGER: &[(&str, usize, usize)] = &[
    ("artifact", 10, 27),
    ("artifact/packer", 10, 29),
    ("artifact/plugin-manifest", 7, 29),
    ("cli", 11, 30),
    ("operator", 10, 32),
];

fn is_listed(function: &Function) -> bool {
    let file = function.file.to_string_lossy();
    LONG.iter()
        .any(|(path, name)| *path == file && *name == function.name)
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let all = functions(&shipped(&repository().unwrap()).unwrap());
    let long: Vec<&Function> = all
        .iter()
        .filter(|function| function.lines > LONGEST)
        .collect();
    let unlisted: Vec<&&Function> = long
        .iter()
        .filter(|function| !is_listed(function))
        .collect();
    assert!(unlisted.is_empty(), "above {LONGEST} lines: {unlisted:#?}");
    assert_eq!(
        long.len(),
        LONG.len(),
        "an entry is no longer needed: {LONG:?}"
    );
}

/// Crates with fewer functions have no median worth the name.
const FEW: usize = 30;

/// Median, and what nine in ten are not longer than.
fn sizes(package: &Crate) -> Option<(usize, usize)> {
    let all = functions(std::slice::from_ref(package));
    let at = |tenths: usize| all[all.len() * tenths / 10].lines;
    (all.len() >= FEW).then(|| (at(5), at(9)))
}

#[test]
fn most_functions_are_short() {
    let mut wrong = Vec::new();
    for package in &shipped(&repository().unwrap()).unwrap() {
        let folder = package.folder.display().to_string();
        let listed = LONGER.iter().find(|(name, ..)| *name == folder);
        let wanted = listed.map_or((MEDIAN, NINE_IN_TEN), |(_, median, nine)| (*median, *nine));
        let Some((median, nine)) = sizes(package) else {
            continue;
        };
        if median > wanted.0 || nine > wanted.1 {
            wrong.push(format!(
                "{folder}: median {median}, nine in ten up to {nine}, wanted {wanted:?}"
            ));
        }
        if listed.is_some() && median <= MEDIAN && nine <= NINE_IN_TEN {
            wrong.push(format!(
                "{folder} is short enough now: take it off the list"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
