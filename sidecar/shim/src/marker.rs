//! The check that the folder holds the artifact that the sidecar means.

use std::{fs, path::Path};

/// File of the marker, under the artifact folder.
pub const FILE: &str = ".paperclip/marker";
/// Largest marker worth reading.
const LIMIT: u64 = 4096;

/// Fails with a sentence when the folder's marker is not the wanted one.
pub fn check(artifact: &Path, wanted: &str) -> Result<(), String> {
    let path = artifact.join(FILE);
    let shown = path.display();
    let length = fs::metadata(&path)
        .map_err(|error| format!("reading the artifact's marker {shown}: {error}"))?
        .len();
    if length > LIMIT {
        return Err(format!(
            "the artifact's marker {shown} has {length} bytes, wanted at most {LIMIT}"
        ));
    }
    let found = fs::read_to_string(&path)
        .map_err(|error| format!("reading the artifact's marker {shown}: {error}"))?;
    let found = found.trim_end();
    if found != wanted {
        return Err(format!(
            "the artifact's marker {shown} says {found}, wanted {wanted}: this is another artifact"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_marker_is_refused_with_both_values() {
        let folder = std::env::temp_dir().join(format!("shim-marker-{}", std::process::id()));
        fs::create_dir_all(folder.join(".paperclip")).unwrap();
        fs::write(folder.join(FILE), "abc\n").unwrap();
        assert_eq!(check(&folder, "abc"), Ok(()));
        let refusal = check(&folder, "def").unwrap_err();
        assert!(refusal.contains("says abc, wanted def"), "{refusal}");
        fs::remove_dir_all(&folder).unwrap();
        assert!(check(&folder, "abc").is_err());
    }
}
