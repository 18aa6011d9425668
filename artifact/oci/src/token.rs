//! Bearer tokens, for registries that do not take a credential itself.
//!
//! Such a registry answers 401 and says where tokens are given out. There the client asks
//! for one, with the credential if it has one, and sends it from then on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Request, Response, StatusCode, Url};
use serde_json::Value;

/// Largest answer of a place that gives out tokens.
pub(crate) const MAX_ANSWER: u64 = 64 * 1024;

/// The token in use. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Token {
    header: Arc<Mutex<Option<HeaderValue>>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl Token {
    /// Puts the token in place of the credential, once there is one.
    pub(crate) fn authorise(&self, request: &mut Request) {
        let header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = header.clone() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
    }

    /// A token that was given out before; `None` where it is none that can be sent.
    pub(crate) fn given(token: &str) -> Option<Self> {
        let given = Self::default();
        given.put(token)?;
        Some(given)
    }

    /// Takes the token from the answer of the place that gives them out.
    pub(crate) fn renew(&self, answer: &[u8]) -> Result<(), &'static str> {
        let answer: Value = serde_json::from_slice(answer).map_err(|_| "it is no JSON")?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let token = token.ok_or("it holds no token")?;
        self.put(token).ok_or("its token cannot be sent")
    }

    fn put(&self, token: &str) -> Option<()> {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = Some(header);
        Some(())
    }
}

/// Where an answer says that tokens are given out.
///
/// `None` where the answer wants none, and where the place has no TLS although the
/// registry has: the credential goes there.
pub(crate) fn place(answer: &Response) -> Option<Url> {
    if answer.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let mut headers = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.find_map(|header| parse(header.to_str().ok()?, answer.url().scheme()))
}

fn parse(challenge: &str, scheme: &str) -> Option<Url> {
    let (kind, rest) = challenge.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parameters(rest);
    let value = |name: &str| {
        let found = parameters.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| *value)
    };
    let mut url = Url::parse(value("realm")?).ok()?;
    if !matches!((url.scheme(), scheme), ("https", _) | ("http", "http")) {
        return None;
    }
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Some(url)
}

/// The parts of `a="1",b="2,3"`; a value that is not quoted ends the list.
fn parameters(mut text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let Some((value, rest)) = rest.split_once('"') else {
            break;
        };
        found.push((name.trim_matches([',', ' ']), value));
        text = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_tokens_has_the_service_and_scope_that_are_asked_for() {
        let challenge = r#"Bearer realm="https://auth.example/token",service="r", scope="repository:p/x:pull,push""#;
        assert_eq!(
            parse(challenge, "https").unwrap().as_str(),
            "https://auth.example/token?service=r&scope=repository%3Ap%2Fx%3Apull%2Cpush"
        );
    }

    #[test]
    fn credential_goes_nowhere_without_tls_when_the_registry_has_it() {
        let challenge = r#"Bearer realm="http://auth.example/token""#;
        assert_eq!(parse(challenge, "https"), None);
        assert!(parse(challenge, "http").is_some());
        for other in [
            "Basic realm=\"https://a.example\"",
            "Bearer",
            "Bearer realm=\"x\"",
            "Bearer a=\"",
        ] {
            assert_eq!(parse(other, "https"), None, "{other}");
        }
    }
}
