//! What moves between two locks: packages by name, where they stand in the tree, and versions.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::Lock;

/// One place of the tree that holds another version than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Path of the package without the leading `node_modules/`, as in `a/node_modules/b`.
    pub package: String,
    /// The version before; `None` for a package that is new.
    pub from: Option<String>,
    /// The version now; `None` for a package that is gone.
    pub to: Option<String>,
}

/// Every difference between two locks, in order of the paths.
#[must_use]
pub fn changes(before: &Lock, now: &Lock) -> Vec<Change> {
    let versions = |lock: &Lock| -> BTreeMap<String, String> {
        let packages = lock.packages();
        packages
            .map(|(path, version, _)| (path.to_owned(), version.to_owned()))
            .collect()
    };
    let (before, now) = (versions(before), versions(now));
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |path: &String| Change {
        package: path.trim_start_matches("node_modules/").to_owned(),
        from: before.get(path).cloned(),
        to: now.get(path).cloned(),
    };
    paths
        .into_iter()
        .map(change)
        .filter(|change| change.from != change.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let integrity = format!("sha512-{}==", "A".repeat(86));
        let mut all = Map::from_iter([("".into(), json!({"dependencies": {"plugin": "1.0.0"}}))]);
        for (path, version) in [("plugin", "1.0.0")].iter().chain(packages) {
            let entry = json!({"version": version, "integrity": integrity});
            all.insert(format!("node_modules/{path}"), entry);
        }
        let text = json!({"lockfileVersion": 3, "packages": Value::Object(all)}).to_string();
        Lock::parse(text.as_bytes(), "plugin", "1.0.0").unwrap()
    }

    #[test]
    fn what_came_went_and_moved_is_told_by_its_place() {
        let before = lock(&[
            ("a", "1.0.0"),
            ("b", "1.0.0"),
            ("b/node_modules/c", "2.0.0"),
        ]);
        let now = lock(&[("a", "1.1.0"), ("b", "1.0.0"), ("d", "0.1.0")]);
        let told = |package: &str, from: Option<&str>, to: Option<&str>| Change {
            package: package.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        assert_eq!(
            changes(&before, &now),
            [
                told("a", Some("1.0.0"), Some("1.1.0")),
                told("b/node_modules/c", Some("2.0.0"), None),
                told("d", None, Some("0.1.0")),
            ]
        );
        assert_eq!(changes(&now, &now), []);
    }
}
