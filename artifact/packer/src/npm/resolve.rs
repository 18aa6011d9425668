//! The version that npm takes for a range or a dist-tag.

use nodejs_semver::Version;
use paperclip_artifact::integrity;
use paperclip_packing_api::resolve::Resolved;
use serde::Deserialize;

use crate::npm::error::InstallError;
use crate::npm::install::Npm;

impl Npm<'_> {
    /// The version that npm would install for this range or tag: what `latest` names where
    /// that is within, else the newest that is not deprecated, else the newest.
    ///
    /// # Errors
    /// When no version is within, the one that is has no SHA-512, or the registry does not
    /// answer.
    pub async fn look_up(&self, package: &str, range: &str) -> Result<Resolved, InstallError> {
        let spec = format!("{package}@{range}");
        let fields = [
            "version",
            "dist.integrity",
            "deprecated",
            "dist-tags.latest",
        ];
        let arguments = [&["view", &spec, "--json"][..], &fields].concat();
        let action = format!("look up {spec}");
        let answer = self.run(&action, &arguments).await;
        let answer = answer.map_err(|failure| failure.of_lookup(&spec))?;
        let Some(found) = choose(&answer) else {
            let message = "the registry names no version".to_owned();
            return Err(InstallError::VersionNotFound {
                package: spec,
                message,
            });
        };
        let version = found.version;
        match found.integrity {
            Some(integrity) if integrity::sha512(&integrity).is_some() => Ok(Resolved {
                package: None,
                version,
                integrity,
            }),
            _ => Err(InstallError::Refused {
                action,
                message: format!("its version {version} has no sha512 integrity"),
            }),
        }
    }
}

/// A version, as `npm view --json` tells it.
#[derive(Deserialize)]
struct Candidate {
    version: String,
    #[serde(rename = "dist.integrity")]
    integrity: Option<String>,
    /// A text; false in packages of old.
    deprecated: Option<serde_json::Value>,
    #[serde(rename = "dist-tags.latest")]
    latest: Option<String>,
}

impl Candidate {
    fn is_deprecated(&self) -> bool {
        let text = self.deprecated.as_ref().and_then(serde_json::Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    }
}

/// npm tells one candidate as an object and more of them as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Candidates {
    One(Candidate),
    Some(Vec<Candidate>),
}

fn choose(answer: &[u8]) -> Option<Candidate> {
    let mut candidates = match serde_json::from_slice(answer).ok()? {
        Candidates::One(one) => vec![one],
        Candidates::Some(several) => several,
    };
    let is_latest = |one: &Candidate| one.latest.as_ref() == Some(&one.version);
    // What is no version cannot be packed.
    candidates.retain(|one| semver::Version::parse(&one.version).is_ok());
    candidates.into_iter().max_by_key(|one| {
        let newest = Version::parse(&one.version).ok();
        (is_latest(one), !one.is_deprecated(), newest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn chosen(answer: &Value) -> Option<String> {
        choose(answer.to_string().as_bytes()).map(|one| one.version)
    }

    #[test]
    fn latest_goes_before_newer_and_newer_before_deprecated() {
        let of = |version: &str, latest: &str, deprecated: Option<&str>| {
            json!({"version": version, "dist.integrity": "sha512-x", "dist-tags.latest": latest,
                "deprecated": deprecated})
        };
        let within = json!([of("1.9.0", "1.9.0", None), of("1.10.0", "1.9.0", None)]);
        assert_eq!(chosen(&within).as_deref(), Some("1.9.0"));
        let without = json!([of("1.9.0", "2.0.0", None), of("1.10.0", "2.0.0", None)]);
        assert_eq!(chosen(&without).as_deref(), Some("1.10.0"));
        let broken = json!([
            of("1.9.0", "2.0.0", None),
            of("1.10.0", "2.0.0", Some("broken"))
        ]);
        assert_eq!(chosen(&broken).as_deref(), Some("1.9.0"));
    }

    #[test]
    fn one_candidate_is_no_list_and_nonsense_is_none() {
        assert_eq!(
            chosen(&json!({"version": "1.0.0"})).as_deref(),
            Some("1.0.0")
        );
        assert_eq!(chosen(&json!({"version": "../1.0.0"})), None);
        assert_eq!(chosen(&json!("1.0.0")), None);
        assert_eq!(chosen(&json!([])), None);
    }
}
