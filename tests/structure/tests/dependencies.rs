//! Which crate may know which, and how much the resident programs link.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_structure::{
    dependencies::{between_crates, linked_packages},
    repository,
};

/// Crates of the workspace, from those that know nobody up to those that know many, each with
/// the crates that it may know. `docs/architecture.md` tells what each is for.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("paperclip-error-chain", &[]),
    ("paperclip-pod-layout", &[]),
    ("paperclip-net-guard", &[]),
    ("paperclip-program", &[]),
    ("paperclip-protocol", &[]),
    ("paperclip-identity", &[]),
    ("paperclip-artifact-format", &[]),
    ("paperclip-plugin-manifest", &[]),
    ("paperclip-crds", &[]),
    ("paperclip-identity-issue", &["paperclip-identity"]),
    (
        "paperclip-bridge",
        &["paperclip-identity", "paperclip-protocol"],
    ),
    (
        "paperclip-oci",
        &["paperclip-artifact-format", "paperclip-net-guard"],
    ),
    (
        "paperclip-artifact",
        &[
            "paperclip-artifact-format",
            "paperclip-oci",
            "paperclip-plugin-manifest",
        ],
    ),
    (
        "paperclip-packing-api",
        &[
            "paperclip-artifact",
            "paperclip-artifact-format",
            "paperclip-error-chain",
            "paperclip-oci",
            "paperclip-plugin-manifest",
        ],
    ),
    (
        "paperclip-packer",
        &[
            "paperclip-artifact",
            "paperclip-artifact-format",
            "paperclip-error-chain",
            "paperclip-net-guard",
            "paperclip-oci",
            "paperclip-packing-api",
            "paperclip-plugin-manifest",
        ],
    ),
    ("paperclip-shim", &["paperclip-pod-layout"]),
    (
        "paperclip-fetch",
        &[
            "paperclip-artifact",
            "paperclip-artifact-format",
            "paperclip-oci",
            "paperclip-pod-layout",
            "paperclip-program",
        ],
    ),
    (
        "paperclip-sidecar",
        &[
            "paperclip-artifact-format",
            "paperclip-bridge",
            "paperclip-identity",
            "paperclip-pod-layout",
            "paperclip-program",
            "paperclip-protocol",
            "paperclip-shim",
        ],
    ),
    (
        "paperclip-host",
        &[
            "paperclip-bridge",
            "paperclip-crds",
            "paperclip-error-chain",
            "paperclip-identity",
            "paperclip-net-guard",
            "paperclip-plugin-manifest",
            "paperclip-pod-layout",
            "paperclip-protocol",
        ],
    ),
    (
        "paperclip-operator",
        &[
            "paperclip-artifact",
            "paperclip-artifact-format",
            "paperclip-bridge",
            "paperclip-crds",
            "paperclip-error-chain",
            "paperclip-identity",
            "paperclip-identity-issue",
            "paperclip-oci",
            "paperclip-packing-api",
            "paperclip-pod-layout",
            "paperclip-protocol",
        ],
    ),
    (
        "kubectl-paperclip",
        &[
            "paperclip-artifact",
            "paperclip-artifact-format",
            "paperclip-crds",
            "paperclip-error-chain",
            "paperclip-oci",
            "paperclip-packer",
            "paperclip-packing-api",
            "paperclip-plugin-manifest",
            "paperclip-pod-layout",
            "paperclip-protocol",
        ],
    ),
    ("paperclip-plugin-example-tally", &[]),
];

/// Crates that no shipped program links: they may know every other.
const OF_TESTS: &[&str] = &[
    "paperclip-tests",
    "paperclip-structure",
    "paperclip-testkit",
    "paperclip-bench",
    "paperclip-test-programs",
];

/// Programs that stay in memory for every plugin or pod, with the most packages that each links.
const LINKED_AT_MOST: &[(&str, usize)] = &[("paperclip-sidecar", 210), ("paperclip-shim", 10)];

#[test]
fn a_crate_knows_only_those_it_may_know() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_KNOW
        .iter()
        .map(|(name, known)| (*name, known.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for (name, known) in between_crates(&repository().unwrap()).unwrap() {
        if OF_TESTS.contains(&name.as_str()) {
            continue;
        }
        let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        match allowed.get(name.as_str()) {
            None => wrong.push(format!("{name} is in no list")),
            Some(allowed) if *allowed != known => {
                wrong.push(format!(
                    "{name} knows {known:?}, and its list says {allowed:?}"
                ));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_has_no_circle() {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (name, may_know) in MAY_KNOW {
        let below = may_know.iter().all(|other| known.contains(other));
        assert!(below, "{name} may know only crates that stand before it");
        known.insert(name);
    }
}

#[test]
fn resident_programs_stay_small() {
    for (package, most) in LINKED_AT_MOST {
        let linked = linked_packages(&repository().unwrap(), package).unwrap();
        println!("{package} links {} packages", linked.len());
        assert!(
            linked.len() <= *most,
            "{package} links {} packages, wanted {most}: {linked:#?}",
            linked.len()
        );
    }
}
