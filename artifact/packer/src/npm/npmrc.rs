//! An `.npmrc` of the platform: registries of scopes, and the credential for each registry.
//!
//! npm itself never sees the file, so what it says beyond that has no effect.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;

/// What is used of an `.npmrc`.
#[derive(Default)]
pub(super) struct Npmrc {
    /// URL of the registry of each scope.
    pub(super) scopes: BTreeMap<String, String>,
    /// Settings that have no effect.
    pub(super) ignored: Vec<String>,
    /// By `host[:port]/path/`.
    credentials: BTreeMap<String, Credential>,
}

/// Values stay out of every print.
impl fmt::Debug for Npmrc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Npmrc")
            .field("scopes", &self.scopes)
            .field("credentials", &self.credentials.keys())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Credential {
    token: Option<String>,
    basic: Option<String>,
    username: Option<String>,
    /// In base64, as npm has it.
    password: Option<String>,
}

impl Npmrc {
    pub(super) fn parse(text: &str) -> Self {
        let mut npmrc = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            npmrc.take(key.trim(), unquote(value.trim()));
        }
        npmrc
    }

    fn take(&mut self, key: &str, value: &str) {
        if let Some(scope) = key.strip_suffix(":registry").filter(|k| k.starts_with('@')) {
            self.scopes.insert(scope.to_owned(), value.to_owned());
            return;
        }
        let named = key.strip_prefix("//").and_then(|key| key.rsplit_once(':'));
        if let Some((place, field)) = named {
            let place = format!("{}/", place.trim_end_matches('/'));
            let credential = self.credentials.entry(place).or_default();
            let slot = match field {
                "_authToken" => Some(&mut credential.token),
                "_auth" => Some(&mut credential.basic),
                "username" => Some(&mut credential.username),
                "_password" => Some(&mut credential.password),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = Some(value.to_owned());
                return;
            }
        }
        // The registry is part of the request, which names it.
        if !matches!(key, "registry" | "always-auth" | "email") {
            self.ignored.push(key.chars().take(100).collect());
        }
    }

    /// The credential for a URL: that of the longest registry above it.
    pub(super) fn credential(&self, url: &Url) -> Option<HeaderValue> {
        let host = url.host_str()?;
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        let place = format!("{host}{port}{}", url.path());
        let above = self
            .credentials
            .iter()
            .filter(|(registry, _)| place.starts_with(*registry))
            .max_by_key(|(registry, _)| registry.len());
        let mut header = HeaderValue::try_from(above?.1.header()?).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl Credential {
    fn header(&self) -> Option<String> {
        if let Some(token) = &self.token {
            return Some(format!("Bearer {token}"));
        }
        if let Some(basic) = &self.basic {
            return Some(format!("Basic {basic}"));
        }
        let (username, password) = (self.username.as_ref()?, self.password.as_ref()?);
        let password = STANDARD.decode(password).ok()?;
        let both = [username.as_bytes(), b":", &password].concat();
        Some(format!("Basic {}", STANDARD.encode(both)))
    }
}

fn unquote(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use paperclip_packing_api::login::Login;

    use super::*;

    const TEXT: &str = r#"
        ; of the platform
        registry=https://elsewhere.example/
        @acme:registry = "https://npm.acme.example:8443/private"
        //registry.example/:_authToken=one
        //registry.example/deep/:_authToken = 'two'
        //npm.acme.example:8443/private/:username=me
        //npm.acme.example:8443/private/:_password=c2VjcmV0
        strict-ssl=false
    "#;

    fn header(url: &str) -> Option<String> {
        let header = Npmrc::parse(TEXT).credential(&Url::parse(url).unwrap())?;
        Some(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn credential_goes_to_its_own_registry_and_nowhere_else() {
        let bearer = |token: &str| Some(format!("Bearer {token}"));
        assert_eq!(header("https://registry.example/a"), bearer("one"));
        assert_eq!(header("https://registry.example/deep/a"), bearer("two"));
        assert_eq!(
            header("https://npm.acme.example:8443/private/@acme%2fx"),
            Some("Basic bWU6c2VjcmV0".into())
        );
        for other in [
            "https://registry.example.evil/a",
            "https://registry.example:444/a",
            "https://npm.acme.example:8443/public/a",
            "https://npm.acme.example/private/a",
        ] {
            assert_eq!(header(other), None, "{other}");
        }
    }

    #[test]
    fn a_login_is_written_so_that_it_is_sent_below_its_url_alone() {
        let header = |login: &Login, url: &str| {
            let text = login.npmrc("https://r.example:8443/npm").unwrap();
            let header = Npmrc::parse(&text).credential(&Url::parse(url).unwrap())?;
            Some(header.to_str().unwrap().to_owned())
        };
        let token = Login::Token("a=b".into());
        let inside = "https://r.example:8443/npm/x";
        assert_eq!(header(&token, inside), Some("Bearer a=b".into()));
        assert_eq!(header(&token, "https://r.example:8443/other"), None);
        let password = Login::Password {
            username: "me".into(),
            password: "secret".into(),
        };
        assert_eq!(header(&password, inside), Some("Basic bWU6c2VjcmV0".into()));
    }

    #[test]
    fn a_login_that_would_write_lines_of_its_own_is_none() {
        let token = Login::Token("a\n@scope:registry=https://evil.example".into());
        assert_eq!(token.npmrc("https://r.example/"), None);
        assert_eq!(
            Login::Token(String::new()).npmrc("https://r.example/"),
            None
        );
    }

    #[test]
    fn scopes_are_read_and_what_has_no_effect_is_named() {
        let npmrc = Npmrc::parse(TEXT);
        assert_eq!(
            npmrc.scopes["@acme"],
            "https://npm.acme.example:8443/private"
        );
        assert_eq!(npmrc.ignored, ["strict-ssl"]);
        assert!(!format!("{npmrc:?}").contains("one"));
    }
}
