//! The credential for an npm registry or a tarball, as the platform writes it for packing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// What a server asks for before it lets somebody in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A bearer token.
    Token(String),
    /// A name and a password.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
}

impl Login {
    /// The lines of an `.npmrc` that send this to everything below a URL, and to nothing else.
    /// `None` where the URL has no host, or a value would end its line.
    #[must_use]
    pub fn npmrc(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        let path = url.path().trim_end_matches('/');
        let place = format!("//{}{port}{path}/", url.host_str()?);
        let is_one_line = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        match self {
            Self::Token(token) => {
                is_one_line(token).then(|| format!("{place}:_authToken={token}\n"))
            }
            Self::Password { username, password } => is_one_line(username).then(|| {
                let password = STANDARD.encode(password);
                format!("{place}:username={username}\n{place}:_password={password}\n")
            }),
        }
    }
}
