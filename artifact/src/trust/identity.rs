//! Who signed without a key of their own: what a certificate must say.

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::Refusal;

use crate::failure::FailureReason;

/// Memory that a compiled pattern may take: far more than any address needs.
const PATTERN_SIZE: usize = 256 * 1024;

/// An identity in certificates of a trust root.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyless {
    /// The issuer of the identity, exactly.
    pub issuer: String,
    /// The identity: a workflow's URL or an e-mail address.
    pub identity: Pattern,
    /// URL of the source repository, if it must be a certain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_repository: Option<String>,
    /// Whose certificates and logs are believed.
    #[serde(default)]
    pub trust_root: TrustRoot,
}

/// A text that another must equal or match from end to end.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Pattern {
    /// Equal, byte by byte.
    Exact(String),
    /// A regular expression for the whole text: it is anchored at both ends.
    Regexp(String),
}

/// Whose certificates and logs are believed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TrustRoot {
    /// The public Sigstore instance, as it was when this program was built.
    #[default]
    PublicGood,
    /// Text of a `trusted_root.json`.
    Inline(String),
}

impl Keyless {
    /// Checks that pattern and trust root can be read.
    ///
    /// # Errors
    /// When one of them cannot.
    pub fn check(&self) -> Result<(), Refusal> {
        self.identity.matches("")?;
        super::sigstore::check_root(&self.trust_root)
    }
}

impl Pattern {
    /// Whether a text is meant.
    ///
    /// # Errors
    /// When the pattern is no regular expression, or too large a one.
    pub fn matches(&self, text: &str) -> Result<bool, Refusal> {
        match self {
            Self::Exact(exact) => Ok(exact == text),
            Self::Regexp(pattern) => {
                // A group of its own: in `^a|b$` each end would anchor one branch only.
                let anchored = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
                    .size_limit(PATTERN_SIZE)
                    .build();
                let invalid = |e: regex::Error| {
                    let message = format!("cannot read the pattern `{pattern}`: {e}");
                    Refusal::new(FailureReason::PolicyInvalid, message)
                };
                Ok(anchored.map_err(invalid)?.is_match(text))
            }
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => formatter.write_str(text),
            Self::Regexp(pattern) => write!(formatter, "/{pattern}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_from_end_to_end_whatever_is_in_it() {
        let pattern = Pattern::Regexp("https://git.example/acme/.*|other".into());
        assert!(pattern.matches("https://git.example/acme/p").unwrap());
        assert!(pattern.matches("other").unwrap());
        for text in [
            "x https://git.example/acme/p",
            "another",
            "other\n",
            "other one",
        ] {
            assert!(!pattern.matches(text).unwrap(), "{text}");
        }
        let exact = Pattern::Exact("a.c".into());
        assert!(!exact.matches("abc").unwrap());
    }

    #[test]
    fn giant_and_broken_patterns_are_the_policys_fault() {
        for pattern in ["(", "a{1000}{1000}"] {
            let refusal = Pattern::Regexp(pattern.into()).matches("a").unwrap_err();
            assert_eq!(refusal.reason, FailureReason::PolicyInvalid);
        }
    }
}
