//! Who a peer is: the URI SAN of its certificate, parsed.

use std::{fmt, str::FromStr};

/// Trust domain of all identities.
pub const TRUST_DOMAIN: &str = "paperclip.ing";

/// An identity that the operator issues certificates for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The pods of a `PaperclipPlugin`.
    Plugin {
        /// Namespace of the plugin.
        namespace: String,
        /// Name of the plugin.
        name: String,
    },
    /// The processes of a `PaperclipHost`.
    Host {
        /// Namespace of the host.
        namespace: String,
        /// Name of the host.
        name: String,
    },
    /// The operator.
    Operator,
}

/// A URI that is not one of our identities.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not an identity of this platform, wanted spiffe://{TRUST_DOMAIN}/operator or spiffe://{TRUST_DOMAIN}/ns/<namespace>/<plugin|host>/<name>"
)]
pub struct ParseIdentityError(String);

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin { namespace, name } => {
                write!(
                    formatter,
                    "spiffe://{TRUST_DOMAIN}/ns/{namespace}/plugin/{name}"
                )
            }
            Self::Host { namespace, name } => {
                write!(
                    formatter,
                    "spiffe://{TRUST_DOMAIN}/ns/{namespace}/host/{name}"
                )
            }
            Self::Operator => write!(formatter, "spiffe://{TRUST_DOMAIN}/operator"),
        }
    }
}

impl FromStr for Identity {
    type Err = ParseIdentityError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseIdentityError(uri.to_owned());
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(TRUST_DOMAIN))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(refuse)?;
        let parts: Vec<&str> = path.split('/').collect();
        let named = |namespace: &str, name: &str| !namespace.is_empty() && !name.is_empty();
        match parts[..] {
            ["operator"] => Ok(Self::Operator),
            ["ns", namespace, "plugin", name] if named(namespace, name) => Ok(Self::Plugin {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            ["ns", namespace, "host", name] if named(namespace, name) => Ok(Self::Host {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_printing_and_parsing() {
        let all = [
            Identity::Operator,
            Identity::Plugin {
                namespace: "a".into(),
                name: "b".into(),
            },
            Identity::Host {
                namespace: "a".into(),
                name: "b".into(),
            },
        ];
        for identity in all {
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn a_foreign_or_longer_uri_is_refused() {
        for uri in [
            "spiffe://other/operator",
            "spiffe://paperclip.ing.evil/operator",
            "spiffe://paperclip.ing/ns/a/plugin/b/c",
            "spiffe://paperclip.ing/ns//plugin/b",
            "https://paperclip.ing/operator",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri}");
        }
    }
}
