//! The versions of the worker protocol that plugin manifests name as `apiVersion`.

/// Every version that is served, the lowest first. The table of methods is of the one that there is.
pub const OFFERED: &[u32] = &[1];

/// A version that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin manifest says apiVersion {0}, wanted {wanted}", wanted = wanted())]
pub struct Unsupported(pub u32);

fn wanted() -> String {
    let numbers: Vec<String> = OFFERED.iter().map(u32::to_string).collect();
    numbers.join(" or ")
}

/// The version that a plugin manifest names.
///
/// # Errors
/// When no sidecar of this release serves it.
pub fn offered(number: u32) -> Result<u32, Unsupported> {
    let found = OFFERED.iter().find(|offered| **offered == number);
    found.copied().ok_or(Unsupported(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_what_is_supported() {
        assert_eq!(offered(1), Ok(1));
        let refusal = offered(2).unwrap_err().to_string();
        assert_eq!(refusal, "the plugin manifest says apiVersion 2, wanted 1");
    }
}
