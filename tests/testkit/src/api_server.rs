//! An API server in memory: objects by path, server-side apply as a merge, and
//! a list of every request that came in.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Serialize;
use serde_json::{Value, json};

/// Kinds that are listed without a selector.
const LISTED: [&str; 2] = ["/api/v1/nodes", "/v1alpha1/paperclipplugins"];

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    requests: Vec<(String, Value)>,
    terminating: BTreeSet<String>,
    unreachable: bool,
    writes: u64,
    /// The write that fails, counted down, and whether it takes effect before it does.
    failing: Option<(u64, bool)>,
}

/// The server. Clones are the same server.
#[derive(Clone, Default)]
pub struct ApiServer(Arc<Mutex<State>>);

impl ApiServer {
    /// A client of this server.
    #[must_use]
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object there, as if another had made it.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn put(&self, path: &str, object: &impl Serialize) {
        let object = serde_json::to_value(object).unwrap();
        self.state().objects.insert(path.into(), object);
    }

    /// The object at a path.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn object(&self, path: &str) -> Value {
        self.state().objects[path].clone()
    }

    /// Takes an object away, as if another had deleted it.
    pub fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// From now on this namespace is being deleted.
    pub fn terminate(&self, namespace: &str) {
        self.state().terminating.insert(namespace.into());
    }

    /// From now on every request fails, or none does.
    pub fn unreachable(&self, unreachable: bool) {
        self.state().unreachable = unreachable;
    }

    /// The `n`-th write from now on (from 1) gets an error, after it took effect or before.
    pub fn fail_write(&self, n: u64, takes_effect: bool) {
        self.state().failing = Some((n, takes_effect));
    }

    /// Whether the write that was to fail has.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state().failing.is_none()
    }

    /// Everything there is, by path.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Value> {
        self.state().objects.clone()
    }

    /// Requests that write, as `METHOD path`, since the last call.
    pub fn writes(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.state().requests);
        let requests = requests.into_iter().map(|(request, _)| request);
        requests
            .filter(|request| !request.starts_with("GET "))
            .collect()
    }

    /// Requests of any kind, as `METHOD path`, since `writes` was called last.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let state = self.state();
        let requests = state.requests.iter().map(|(request, _)| request.clone());
        requests.collect()
    }

    /// What was patched at a path since `writes` was called last.
    #[must_use]
    pub fn bodies(&self, path: &str) -> Vec<Value> {
        let wanted = format!("PATCH {path}");
        let state = self.state();
        let requests = state
            .requests
            .iter()
            .filter(|(request, _)| *request == wanted);
        requests.map(|(_, body)| body.clone()).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        let mut state = self.state();
        let request = format!("{} {path}", parts.method);
        state.requests.push((request, body.clone()));
        let (code, answer) = state.answer(&parts.method, &path, parts.uri.query(), body);
        Response::builder()
            .status(code)
            .body(Body::from(answer.to_string().into_bytes()))
            .unwrap()
    }
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        body: Value,
    ) -> (StatusCode, Value) {
        let (left, takes_effect) = match self.failing {
            Some((left, takes_effect)) if *method != Method::GET => (left - 1, takes_effect),
            _ => return self.handle(method, path, query, body),
        };
        self.failing = (left > 0).then_some((left, takes_effect));
        if left > 0 {
            return self.handle(method, path, query, body);
        }
        if takes_effect {
            self.handle(method, path, query, body);
        }
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "")
    }

    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        body: Value,
    ) -> (StatusCode, Value) {
        let is_list = LISTED.iter().any(|kind| path.ends_with(kind));
        let selector = query.and_then(selector_of);
        if let Some(selector) = selector.or_else(|| is_list.then(Vec::new))
            && !self.unreachable
            && *method == Method::GET
        {
            return (StatusCode::OK, self.list(path, &selector));
        }
        if self.unreachable {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "");
        }
        let (object, is_status) = match path.strip_suffix("/status") {
            Some(object) => (object.to_owned(), true),
            None => (path.to_owned(), false),
        };
        let object = match *method {
            Method::POST => format!("{object}/{}", name(&body, self.writes)),
            _ => object,
        };
        let found = self.objects.get(&object).cloned();
        match (method, found) {
            (&Method::GET, Some(found)) => (StatusCode::OK, found),
            (&Method::DELETE, Some(found)) if !meets(&found, &body["preconditions"]) => {
                refusal(StatusCode::CONFLICT, "Conflict", "")
            }
            (&Method::DELETE, Some(found)) => {
                self.objects.remove(&object);
                (StatusCode::OK, found)
            }
            (&Method::POST, Some(_)) => refusal(StatusCode::CONFLICT, "AlreadyExists", ""),
            (&Method::PATCH, Some(found)) if is_status => {
                let status = json!({ "status": body["status"] });
                let without = merged(found, json!({ "status": null }));
                self.store(object, merged(without, status))
            }
            (&Method::PATCH, Some(found)) => self.store(object, merged(found, body)),
            (&Method::PUT, Some(_)) => self.store(object, body),
            (&Method::POST | &Method::PATCH, None) if !is_status => {
                let namespaces = &mut self.terminating.iter();
                if namespaces.any(|name| object.contains(&format!("/namespaces/{name}/"))) {
                    let cause = "NamespaceTerminating";
                    return refusal(StatusCode::FORBIDDEN, "Forbidden", cause);
                }
                self.store(object, body)
            }
            _ => refusal(StatusCode::NOT_FOUND, "NotFound", ""),
        }
    }

    /// Objects directly below a path that carry every label of the selector.
    fn list(&self, path: &str, selector: &[(String, String)]) -> Value {
        let prefix = format!("{path}/");
        let fits = |object: &&Value| {
            let labels = &object["metadata"]["labels"];
            selector
                .iter()
                .all(|(key, value)| labels[key] == value.as_str())
        };
        let below = self.objects.iter().filter(|(path, _)| {
            path.strip_prefix(&prefix)
                .is_some_and(|rest| !rest.contains('/'))
        });
        let items: Vec<_> = below.map(|(_, object)| object).filter(fits).collect();
        json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
    }

    fn store(&mut self, path: String, mut object: Value) -> (StatusCode, Value) {
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.writes.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{path}"));
            object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
        }
        self.objects.insert(path, object.clone());
        (StatusCode::OK, object)
    }
}

/// Whether an object is the one that a deletion is meant for.
fn meets(found: &Value, preconditions: &Value) -> bool {
    let same = |field| {
        let wanted = &preconditions[field];
        wanted.is_null() || *wanted == found["metadata"][field]
    };
    same("uid") && same("resourceVersion")
}

/// The label selector of a query, equalities alone.
fn selector_of(query: &str) -> Option<Vec<(String, String)>> {
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    let (_, selector) = fields.find(|(key, _)| key == "labelSelector")?;
    let equalities = selector.split(',').filter_map(|one| one.split_once('='));
    Some(
        equalities
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    )
}

fn name(object: &Value, number: u64) -> String {
    let metadata = &object["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}{number}"),
        (None, None) => "nameless".to_owned(),
    }
}

fn refusal(code: StatusCode, reason: &str, cause: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": format!("refused: {reason}"),
        "details": { "causes": [{ "reason": cause }] },
    });
    (code, status)
}

/// A merge in which `null` removes and lists are replaced.
fn merged(old: Value, new: Value) -> Value {
    match (old, new) {
        (Value::Object(mut old), Value::Object(new)) => {
            for (key, value) in new {
                let before = old.remove(&key).unwrap_or(Value::Null);
                if !value.is_null() {
                    old.insert(key, merged(before, value));
                }
            }
            Value::Object(old)
        }
        (_, new) => new,
    }
}
