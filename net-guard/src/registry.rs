//! The policy for registries: http and https, and no address that trusts whoever is near.
//!
//! A registry names URLs of tarballs and answers with redirects, and a name it owns can
//! resolve to anything. None of that may reach loopback, link-local addresses or a cloud's
//! metadata service, which trust whoever is near. Private networks are allowed: registries
//! live there. The host that is configured as a registry is allowed wherever it is.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use crate::kind::Kind;

/// Redirects that are followed for one request: a registry, its front and a signed URL of its
/// storage are three.
const REDIRECTS: usize = 5;

/// A URL or address that a registry may not send us to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Another scheme than http and https.
    #[error("it breaks the rule `url-scheme`: found {found}, wanted http or https")]
    Scheme {
        /// The scheme.
        found: String,
    },
    /// An address that trusts whoever is near.
    #[error(
        "it breaks the rule `address`: {host} is {}, wanted an address elsewhere or the host of the configured registry",
        found.description()
    )]
    Address {
        /// The host, as name or address.
        host: String,
        /// The kind of the address.
        found: Kind,
    },
    /// Redirects that go on.
    #[error(
        "it breaks the rule `redirects`: found more than {limit} in a row, wanted at most {limit}"
    )]
    Redirects {
        /// The bound.
        limit: usize,
    },
}

/// The rule for one client: which hosts are configured, so that any address will do.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    names: BTreeSet<String>,
    /// Addresses count with their port: another service on this machine is another host.
    sockets: BTreeSet<(IpAddr, u16)>,
    local_ports: BTreeSet<u16>,
}

impl Addresses {
    /// The rule for clients of these URLs.
    pub fn of<'a>(configured: impl IntoIterator<Item = &'a Url>) -> Self {
        let mut rule = Self::default();
        for url in configured {
            let port = url.port_or_known_default().unwrap_or_default();
            match url.host() {
                Some(Host::Domain(name)) if is_localhost(name) => {
                    rule.local_ports.insert(port);
                    rule.names.insert(normal(name));
                }
                Some(Host::Domain(name)) => {
                    rule.names.insert(normal(name));
                }
                Some(Host::Ipv4(address)) => {
                    rule.sockets.insert((address.into(), port));
                }
                Some(Host::Ipv6(address)) => {
                    rule.sockets.insert((address.into(), port));
                }
                None => {}
            }
        }
        rule
    }

    /// Checks what can be seen of a URL before a name in it is resolved.
    ///
    /// # Errors
    /// When its scheme or its address is forbidden.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            let found = url.scheme().chars().take(40).collect();
            return Err(Forbidden::Scheme { found });
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(name)) if is_localhost(name) && !self.local_ports.contains(&port) => {
                return Err(Forbidden::Address {
                    host: name.to_owned(),
                    found: Kind::Loopback,
                });
            }
            _ => return Ok(()),
        };
        match forbidden(address) {
            Some(found) if !self.sockets.contains(&(address, port)) => Err(Forbidden::Address {
                host: address.to_string(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Makes a client resolve names and follow redirects by this rule, and use no proxy,
    /// which would resolve names by itself.
    pub fn guard(self: &Arc<Self>, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let rule = Arc::clone(self);
        let policy = Policy::custom(move |attempt| {
            let limit = REDIRECTS;
            if attempt.previous().len() > limit {
                return attempt.error(Forbidden::Redirects { limit });
            }
            match rule.check(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(forbidden) => attempt.error(forbidden),
            }
        });
        let resolver = Resolver {
            rule: Arc::clone(self),
        };
        client
            .redirect(policy)
            .dns_resolver(Arc::new(resolver))
            .no_proxy()
    }

    /// The addresses of a name that may be connected to.
    fn allowed(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        if self.names.contains(&normal(name)) {
            return Ok(found);
        }
        // One forbidden address is enough: which one a connection takes is chance.
        match found.iter().find_map(|socket| forbidden(socket.ip())) {
            Some(found) => Err(Forbidden::Address {
                host: name.to_owned(),
                found,
            }),
            None => Ok(found),
        }
    }
}

/// Resolves names as the system does, and checks what comes out: the addresses that are
/// checked are those that are connected to.
struct Resolver {
    rule: Arc<Addresses>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = Arc::clone(&self.rule);
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?.collect();
            let allowed = rule.allowed(name, found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn is_localhost(name: &str) -> bool {
    let name = normal(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The kind of an address that is forbidden, if it is one.
fn forbidden(address: IpAddr) -> Option<Kind> {
    Some(Kind::of(address)).filter(|kind| kind.is_near())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(configured: &str) -> Addresses {
        Addresses::of([&Url::parse(configured).unwrap()])
    }

    #[test]
    fn no_spelling_of_a_near_address_is_allowed() {
        let rule = rule("https://registry.example/");
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://0.0.0.0/",
            "http://0.1.2.3/",
            "http://[::]/",
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ] {
            let error = rule.check(&Url::parse(url).unwrap()).unwrap_err();
            assert!(matches!(error, Forbidden::Address { .. }), "{url}: {error}");
        }
        for url in ["file:///etc/passwd", "ftp://h/x", "git+ssh://h/x"] {
            let error = rule.check(&Url::parse(url).unwrap()).unwrap_err();
            assert!(matches!(error, Forbidden::Scheme { .. }), "{url}: {error}");
        }
        for url in [
            "http://10.0.0.1/",
            "https://cdn.example/",
            "http://[fd12::1]/",
        ] {
            assert_eq!(rule.check(&Url::parse(url).unwrap()), Ok(()), "{url}");
        }
    }

    #[test]
    fn configured_host_is_allowed_and_its_neighbour_on_the_same_machine_is_not() {
        for configured in ["http://127.0.0.1:4873/", "http://localhost:4873/"] {
            let rule = rule(configured);
            let same = Url::parse(configured)
                .unwrap()
                .join("a/-/a-1.0.0.tgz")
                .unwrap();
            assert_eq!(rule.check(&same), Ok(()));
            let mut other = same.clone();
            other.set_port(Some(6443)).unwrap();
            assert!(rule.check(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn name_that_resolves_to_a_near_address_is_refused_unless_it_is_the_registrys() {
        let near: Vec<SocketAddr> = vec![
            "10.0.0.1:0".parse().unwrap(),
            "127.0.0.1:0".parse().unwrap(),
        ];
        let rule = rule("https://registry.example/");
        assert!(rule.allowed("rebound.example", near.clone()).is_err());
        assert_eq!(rule.allowed("Registry.Example.", near.clone()), Ok(near));
    }
}
