//! The marker of an artifact: SHA-256 of the listing of its tree; of an index that of each
//! platform's tree.

use crate::platform::Platform;

/// The marker of an index: that of each platform's tree, as in `linux/amd64=<marker>`, joined
/// by commas.
#[must_use]
pub fn join<'a>(markers: impl Iterator<Item = (&'a Platform, &'a str)>) -> String {
    let named = markers.map(|(platform, marker)| format!("{platform}={marker}"));
    named.collect::<Vec<_>>().join(",")
}

/// The marker that the tree of a platform has, by the marker of the artifact.
#[must_use]
pub fn of_platform<'a>(marker: &'a str, platform: &Platform) -> Option<&'a str> {
    if !marker.contains('=') {
        return Some(marker);
    }
    let wanted = platform.to_string();
    let mut named = marker.split(',').filter_map(|one| one.split_once('='));
    named.find_map(|(name, marker)| (name == wanted).then_some(marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_has_its_marker_and_a_plain_one_is_for_all() {
        let (x64, arm64) = (Platform::default(), "linux/arm64".parse().unwrap());
        let joined = join([(&x64, "1"), (&arm64, "2")].into_iter());
        assert_eq!(joined, "linux/amd64=1,linux/arm64=2");
        assert_eq!(of_platform(&joined, &arm64), Some("2"));
        assert_eq!(of_platform("linux/amd64=1", &arm64), None);
        assert_eq!(of_platform("1", &arm64), Some("1"));
    }
}
