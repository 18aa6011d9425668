//! Who may use the host's API: a bearer token, checked by the API server.
//!
//! A token goes through a TokenReview, then through a SubjectAccessReview on the
//! plugin it is used for. Answers are kept for a few seconds, by the token's
//! hash. Without a cluster, tokens come from a file and may do everything.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

/// How long an answer of the API server counts.
const CACHE_TIME: Duration = Duration::from_secs(10);
/// Answers that are kept at most.
const CACHE_SIZE: usize = 4096;

type TokenHash = [u8; 32];

/// Somebody whose token is genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    token: TokenHash,
    /// The user name, for the worker's `actorContext` and for messages.
    pub user: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// What a caller wants to do with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// See it.
    Read,
    /// Call its worker.
    Call,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No token came with the request.
    #[error("a bearer token is missing: send the header Authorization: Bearer <token>")]
    Missing,
    /// The token is not genuine.
    #[error("the bearer token is not valid: {0}")]
    Invalid(String),
    /// The user has not the right.
    #[error(
        "user {user} may not {verb} {resource} of group plugins.paperclip.ing for plugin {plugin}"
    )]
    Forbidden {
        /// The user.
        user: String,
        /// `get` or `create`.
        verb: &'static str,
        /// `paperclipplugins` or `paperclipplugins/call`.
        resource: &'static str,
        /// Namespace and name of the plugin.
        plugin: String,
    },
    /// The API server cannot be asked.
    #[error("the API server cannot review the bearer token")]
    Review(#[source] kube::Error),
}

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("read the tokens in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds none.
    #[error("{0} holds no token, wanted one a line")]
    Empty(PathBuf),
}

/// Checks tokens and rights.
#[derive(Debug)]
pub enum Authenticator {
    /// By the API server.
    Reviews(Box<Reviews>),
    /// By a list of tokens that may do everything.
    Tokens(Vec<TokenHash>),
}

/// TokenReviews and SubjectAccessReviews, with what they answered lately.
pub struct Reviews {
    client: Client,
    callers: Cache<TokenHash, Option<Caller>>,
    rights: Cache<(TokenHash, Access, String, String), bool>,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Access {
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "get",
            Self::Call => "create",
        }
    }

    fn subresource(self) -> Option<String> {
        (self == Self::Call).then(|| "call".to_owned())
    }

    fn resource(self) -> &'static str {
        match self {
            Self::Read => "paperclipplugins",
            Self::Call => "paperclipplugins/call",
        }
    }
}

impl Authenticator {
    /// Asks the API server.
    pub fn reviews(client: Client) -> Self {
        Self::Reviews(Box::new(Reviews {
            client,
            callers: Cache::default(),
            rights: Cache::default(),
        }))
    }

    /// Reads tokens from a file, one a line.
    pub fn token_file(path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let tokens: Vec<TokenHash> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(hash)
            .collect();
        if tokens.is_empty() {
            return Err(TokenFileError::Empty(path.to_owned()));
        }
        Ok(Self::Tokens(tokens))
    }

    /// Finds out who sent the header `Authorization`.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, AuthError> {
        let token = authorization.and_then(bearer).ok_or(AuthError::Missing)?;
        match self {
            Self::Reviews(reviews) => reviews.caller(token).await,
            Self::Tokens(tokens) if tokens.contains(&hash(token)) => Ok(Caller {
                token: hash(token),
                user: "local-board".to_owned(),
                uid: None,
                groups: Vec::new(),
                extra: BTreeMap::new(),
            }),
            Self::Tokens(_) => Err(AuthError::Invalid(
                "it is not one of the host's tokens".to_owned(),
            )),
        }
    }

    /// Whether the caller may do this with the plugin; with all plugins where names are empty.
    pub async fn may(
        &self,
        caller: &Caller,
        access: Access,
        namespace: &str,
        name: &str,
    ) -> Result<bool, AuthError> {
        match self {
            Self::Reviews(reviews) => reviews.may(caller, access, namespace, name).await,
            Self::Tokens(_) => Ok(true),
        }
    }

    /// Lets the caller do this with the plugin, or says what is missing.
    pub async fn require(
        &self,
        caller: &Caller,
        access: Access,
        namespace: &str,
        name: &str,
    ) -> Result<(), AuthError> {
        if self.may(caller, access, namespace, name).await? {
            return Ok(());
        }
        Err(AuthError::Forbidden {
            user: caller.user.clone(),
            verb: access.verb(),
            resource: access.resource(),
            plugin: format!("{namespace}/{name}"),
        })
    }
}

impl Reviews {
    async fn caller(&self, token: &str) -> Result<Caller, AuthError> {
        let invalid = || AuthError::Invalid("the API server does not accept it".to_owned());
        let key = hash(token);
        if let Some(known) = self.callers.get(&key, Instant::now()) {
            return known.ok_or_else(invalid);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(AuthError::Review)?;
        let caller = answer
            .status
            .filter(|status| status.authenticated == Some(true))
            .and_then(|status| status.user)
            .map(|user| Caller {
                token: key,
                user: user.username.unwrap_or_default(),
                uid: user.uid,
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            });
        self.callers.put(key, caller.clone(), Instant::now());
        caller.ok_or_else(invalid)
    }

    async fn may(
        &self,
        caller: &Caller,
        access: Access,
        namespace: &str,
        name: &str,
    ) -> Result<bool, AuthError> {
        let key = (caller.token, access, namespace.to_owned(), name.to_owned());
        if let Some(known) = self.rights.get(&key, Instant::now()) {
            return Ok(known);
        }
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.user.clone()),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("plugins.paperclip.ing".to_owned()),
                    resource: Some("paperclipplugins".to_owned()),
                    subresource: access.subresource(),
                    verb: Some(access.verb().to_owned()),
                    namespace: named(namespace),
                    name: named(name),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(AuthError::Review)?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.rights.put(key, allowed, Instant::now());
        Ok(allowed)
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Answers that count for [`CACHE_TIME`].
struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, value) = entries.get(key)?;
        (now - *since < CACHE_TIME).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, now: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHE_SIZE {
            entries.retain(|_, (since, _)| now - *since < CACHE_TIME);
        }
        if entries.len() >= CACHE_SIZE {
            entries.clear();
        }
        entries.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
    }

    #[test]
    fn an_answer_counts_for_ten_seconds() {
        let now = Instant::now();
        let cache = Cache::default();
        cache.put(1, true, now);
        assert_eq!(
            cache.get(&1, now + CACHE_TIME - Duration::from_millis(1)),
            Some(true)
        );
        assert_eq!(cache.get(&1, now + CACHE_TIME), None);
    }

    /// An API server that knows one token, whose user may call one plugin.
    async fn api_server() -> Client {
        use axum::{Json, Router, routing::post};
        use serde_json::{Value, json};

        let tokens = |Json(mut review): Json<Value>| async move {
            let known = review["spec"]["token"] == "good";
            review["status"] =
                json!({"authenticated": known, "user": {"username": "ann", "groups": ["team"]}});
            Json(review)
        };
        let rights = |Json(mut review): Json<Value>| async move {
            let wanted = json!({
                "group": "plugins.paperclip.ing", "resource": "paperclipplugins", "subresource": "call",
                "verb": "create", "namespace": "shop", "name": "commerce",
            });
            let spec = &review["spec"];
            let allowed = spec["user"] == "ann"
                && spec["groups"] == json!(["team"])
                && spec["resourceAttributes"] == wanted;
            review["status"] = json!({"allowed": allowed});
            Json(review)
        };
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(tokens))
            .route(
                "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                post(rights),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn a_right_is_reviewed_for_the_user_of_a_reviewed_token() {
        let auth = Authenticator::reviews(api_server().await);
        assert!(matches!(
            auth.authenticate(None).await,
            Err(AuthError::Missing)
        ));
        assert!(matches!(
            auth.authenticate(Some("Bearer bad")).await,
            Err(AuthError::Invalid(_))
        ));
        let caller = auth.authenticate(Some("Bearer good")).await.unwrap();
        auth.require(&caller, Access::Call, "shop", "commerce")
            .await
            .unwrap();
        let refusal = auth
            .require(&caller, Access::Read, "shop", "commerce")
            .await
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "user ann may not get paperclipplugins of group plugins.paperclip.ing for plugin shop/commerce"
        );
        assert!(
            auth.require(&caller, Access::Call, "shop", "other")
                .await
                .is_err()
        );
    }
}
