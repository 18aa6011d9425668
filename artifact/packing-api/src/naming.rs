//! Names that follow from what is packed: repositories in the store, and Jobs.

use paperclip_oci::Digest;
use paperclip_oci::reference::is_repository;

/// Repository of a package in the store: `plugins/<name>`, '@' dropped, '/' as '--'.
///
/// A name that another package could also map to, or that OCI does not allow, becomes
/// `plugins/<letters and digits of it>---<hash of the name>`, which no other name becomes.
#[must_use]
pub fn repository(package: &str) -> String {
    let readable = package.trim_start_matches('@').replace('/', "--");
    let candidate = format!("plugins/{readable}");
    let can_be_read_back = readable.matches("--").count() == usize::from(package.starts_with('@'))
        && !readable.contains("---");
    if can_be_read_back && readable.len() <= 120 && is_repository(&candidate) {
        return candidate;
    }
    let words = package.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let stem: String = words.join("-").chars().take(80).collect();
    let stem = if stem.is_empty() {
        "package"
    } else {
        stem.trim_end_matches('-')
    };
    format!(
        "plugins/{stem}---{}",
        Digest::of(package.as_bytes()).short(16)
    )
}

/// Repository in the store of what belongs to one owner: `owners/<owner>/<package>`, the package
/// as in [`repository`].
///
/// Who may pull is told by repository, so what is for one owner is never in one with what is
/// for all. `owner` is a fingerprint, in lower-case hex.
#[must_use]
pub fn repository_of_owner(owner: &str, package: &str) -> String {
    let shared = repository(package);
    let name = shared.trim_start_matches("plugins/");
    format!("owners/{owner}/{name}")
}

/// Whether a text is a package name that npm takes for new packages.
#[must_use]
pub fn is_package_name(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '~')
            && part.chars().all(|c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '~' | '-')
            })
    };
    let body = match text.strip_prefix('@') {
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, name)) => is_part(scope) && is_part(name),
            None => false,
        },
        None => is_part(text),
    };
    body && text.len() <= 214 && text != "node_modules" && text != "favicon.ico"
}

/// `<what>-<package>-<hash>`, a DNS label of at most 63 characters.
pub(crate) fn job_name(what: &str, package: &str, digest: &Digest) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' => c,
        _ => '-',
    };
    let package: String = package.chars().map(plain).collect();
    let package = package.trim_matches('-');
    // The hash is 16 characters long, and "resolve" the longest word.
    let package = package[..package.len().min(38)].trim_end_matches('-');
    format!("{what}-{package}-{}", digest.short(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(
            repository("paperclip-plugin-bcp-commerce"),
            "plugins/paperclip-plugin-bcp-commerce"
        );
        assert_eq!(repository("@acme/plugin-x"), "plugins/acme--plugin-x");
    }

    #[test]
    fn packages_that_would_meet_are_told_apart() {
        let names = [
            "@a/b", "a--b", "@a-/b", "@a/-b", "a---b", "@a--b/c", "@a/b--c", "a.-b", "a~b", "a-b",
            "@a/b~",
        ];
        let mut repositories: Vec<_> = names.iter().map(|n| repository(n)).collect();
        for repository in &repositories {
            assert!(is_repository(repository), "{repository}");
        }
        repositories.sort();
        repositories.dedup();
        assert_eq!(repositories.len(), names.len());
    }
}
