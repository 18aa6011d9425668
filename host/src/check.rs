//! A check of a running host from outside: the calls that every client makes first.

use std::{error::Error, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use crate::args::CheckArgs;

/// Time for each call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a host does not pass.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no HTTP client.
    #[error("create an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The token cannot be read.
    #[error("read the token in {path:?}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody answers, or not in time.
    #[error("call {url}")]
    Call {
        /// What was called.
        url: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is a refusal.
    #[error("call {url}: the host answered {status}: {body}")]
    Refused {
        /// What was called.
        url: String,
        /// Its answer.
        status: StatusCode,
        /// What it said.
        body: String,
    },
}

/// What a host that passes said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its version.
    pub version: String,
    /// Plugins that the token's owner may see; none where no token was given.
    pub plugins: Option<usize>,
}

#[derive(Deserialize)]
struct Health {
    version: String,
}

#[derive(Deserialize)]
struct Plugin {}

/// Calls the health route, and lists plugins where there is a token.
pub async fn check(args: &CheckArgs) -> Result<Checked, CheckError> {
    let client = Client::builder()
        .timeout(TIMEOUT)
        .build()
        .map_err(CheckError::Client)?;
    let base = args.url.trim_end_matches('/');
    let health: Health = get(&client, format!("{base}/api/health"), None).await?;
    let plugins = match &args.token_file {
        None => None,
        Some(path) => {
            let token = std::fs::read_to_string(path).map_err(|source| CheckError::Token {
                path: path.clone(),
                source,
            })?;
            let url = format!("{base}/api/plugins");
            let plugins: Vec<Plugin> = get(&client, url, Some(token.trim())).await?;
            Some(plugins.len())
        }
    };
    Ok(Checked {
        version: health.version,
        plugins,
    })
}

async fn get<T: DeserializeOwned>(
    client: &Client,
    url: String,
    token: Option<&str>,
) -> Result<T, CheckError> {
    let mut request = client.get(&url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answered = async {
        let answer = request.send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.bytes().await?))
    };
    let (status, body) = answered.await.map_err(|source| CheckError::Call {
        url: url.clone(),
        source: source.into(),
    })?;
    if !status.is_success() {
        return Err(CheckError::Refused {
            url,
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
    }
    serde_json::from_slice(&body).map_err(|source| CheckError::Call {
        url,
        source: source.into(),
    })
}
