//! What workers may ask of the host: config, state, entities, events, requests
//! to the outside, logs, metrics, activity and their company.
//!
//! A call passes three gates: the method exists, the manifest declares its
//! capability, and it is made on behalf of the company it asks for. It passes them when it
//! is received, while the invocation it was made within is certain to be under way; the work
//! follows in its turn.

mod http_fetch;
mod methods;
mod scope;

use std::sync::Arc;

use bytes::Bytes;
use paperclip_error_chain::chain;
use paperclip_protocol::methods::{Unreadable, company_scope, needed, worker_request};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tracing::{debug, error, info, warn};

pub use http_fetch::HttpFetch;
use methods::Owner;
use scope::{CompanyScope, Scope};

use crate::{
    company::{COMPANY_ID, company},
    database::{DatabaseError, EntityQuery, NewEntity, NewLog, StateKey},
    events::{Event, Subscription},
    host::Host,
    log_entries::LogEntry,
    plugins::{Plugin, Pod},
    rpc::{CAPABILITY_DENIED, Fault, METHOD_NOT_FOUND},
    streams::ChannelId,
};

/// The one method whose work is not the host's own: it may take as long as others please.
pub const FETCH: &str = "http.fetch";
/// Longest name of a tracked event.
const EVENT_NAME_LIMIT: usize = 200;

/// A worker's request, with who made it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The host.
    pub host: &'a Host,
    /// The plugin whose worker asks.
    pub plugin: &'a Arc<Plugin>,
    /// The pod it runs in.
    pub pod: &'a Pod,
    /// JSON-RPC method.
    pub method: &'a str,
    /// `params` as JSON, empty without.
    pub params: &'a [u8],
    /// `paperclipInvocationId`, empty without.
    pub invocation_id: &'a str,
}

/// Lets a request in, on behalf of the company it is made for, or says why not. To be asked when
/// it is received, in its place among the pod's other messages.
pub fn admit(request: Request<'_>) -> Result<Option<String>, Fault> {
    let Request { pod, method, .. } = request;
    let Some(known) = worker_request(method) else {
        return Err(Fault::new(
            METHOD_NOT_FOUND,
            format!("the host has no method {method}"),
        ));
    };
    let declared = &pod.release().manifest.capabilities;
    let mut needed = needed(method, request.params).map_err(|error| unreadable(method, error))?;
    if let Some(capability) = needed.find(|capability| !declared.contains(*capability)) {
        return Err(Fault::new(
            CAPABILITY_DENIED,
            format!(
                "{method} needs the capability {capability}, which the plugin manifest does not declare"
            ),
        ));
    }
    let company = request.company()?;
    match methods::owner(known) {
        Owner::Host => Ok(company),
        Owner::Paperclip => Err(Fault::internal(format!(
            "{method} is answered by Paperclip: company data belongs to it, and this host has none"
        ))),
        Owner::Elsewhere(what) => Err(Fault::internal(format!(
            "{method} needs {what}, which this host does not have"
        ))),
    }
}

/// Answers a request that was let in on behalf of `company` with `result` as JSON.
pub async fn answer(request: Request<'_>, company: Option<String>) -> Result<Bytes, Fault> {
    let Request {
        host,
        pod,
        method: name,
        ..
    } = request;
    match name {
        "config.get" => Ok(Bytes::copy_from_slice(pod.config().json().get().as_bytes())),
        "state.get" => request.get_state().await,
        "state.set" => request.set_state().await,
        "state.delete" => request.delete_state().await,
        "entities.upsert" => request.upsert_entity().await,
        "entities.list" => request.list_entities().await,
        "events.emit" => request.emit(company.as_deref()).await,
        "events.subscribe" => request.subscribe(),
        FETCH => json(name, &host.fetch.fetch(request.params).await?),
        "activity.log" => request.log_activity(company.as_deref()).await,
        "metrics.write" => request.write_metric(company.as_deref()).await,
        "telemetry.track" => request.track(),
        "log" => request.log(company.as_deref()).await,
        "companies.list" => json(name, &[self::company()]),
        "companies.get" => json(name, &self::company()),
        _ => Err(Fault::internal(format!(
            "{name} is not answered by this host"
        ))),
    }
}

/// Takes a worker's notification. There is nobody to tell when it is wrong.
pub fn notified(request: Request<'_>) {
    let Request { plugin, method, .. } = request;
    let taken = match method {
        "log" => request.tell_log(),
        "streams.open" | "streams.emit" | "streams.close" => request.stream(),
        _ => {
            debug!(plugin = %plugin.id(), method, "notification of a worker ignored");
            Ok(())
        }
    };
    if let Err(fault) = taken {
        debug!(plugin = %plugin.id(), method, reason = fault.message, "notification of a worker dropped");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Streamed {
    channel: String,
    company_id: String,
    #[serde(default)]
    event: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateValue {
    value: Box<RawValue>,
}

#[derive(Deserialize)]
struct Emitted {
    name: String,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct LogParams {
    #[serde(default)]
    level: Option<String>,
    message: String,
    #[serde(default)]
    meta: Option<Box<RawValue>>,
}

#[derive(Deserialize, Serialize)]
struct Metric {
    #[serde(skip_serializing)]
    name: String,
    value: Value,
    #[serde(default)]
    tags: Option<Box<RawValue>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    #[serde(skip_serializing)]
    message: String,
    #[serde(default)]
    entity_type: Option<String>,
    #[serde(default)]
    entity_id: Option<String>,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tracked {
    event_name: String,
}

impl Request<'_> {
    /// Passes on what a worker tells on a channel. Unlike a question, it may come without a scope.
    fn stream(&self) -> Result<(), Fault> {
        let told: Streamed = self.params()?;
        let asked = self.company_scope()?;
        match self.scope(&asked) {
            Scope::None => {}
            scope => drop(scope::gate(self.method, &asked, scope)?),
        }
        let id = ChannelId {
            company: told.company_id,
            name: told.channel,
        };
        let streams = self.plugin.streams();
        let dropped = match self.method {
            "streams.open" => streams.open(self.pod.name(), id),
            "streams.close" => streams.close(&id),
            _ => streams.emit(&id, told.event.as_ref().map_or("null", |event| event.get())),
        };
        if dropped > 0 {
            info!(plugin = %self.plugin.id(), dropped, "readers of a stream were too slow and were dropped");
            self.host
                .metrics
                .stream_readers_dropped
                .inc_by(dropped as u64);
        }
        Ok(())
    }

    /// What the call asks for.
    fn company_scope(&self) -> Result<CompanyScope<'_>, Fault> {
        company_scope(self.method, self.params).map_err(|error| unreadable(self.method, error))
    }

    /// What the call is made for.
    fn scope(&self, asked: &CompanyScope<'_>) -> Scope {
        let invocations = self.plugin.invocations();
        let company = invocations.company(self.invocation_id);
        scope::resolve(self.origin(company.as_deref()), asked)
    }

    /// Origin of the call, which is made within an invocation for `company`.
    fn origin<'a>(&'a self, company: Option<&'a str>) -> scope::Origin<'a> {
        let is_strict = self.host.strict_scopes;
        let proactive = !is_strict || self.pod.config().is_given();
        scope::Origin {
            invocation_id: self.invocation_id,
            invocation_company: company,
            proactive: proactive.then_some(COMPANY_ID),
            active: self.plugin.invocations().is_active(self.pod.name()),
            lenient: !is_strict,
        }
    }

    /// The company the request is made for, once it may be made.
    fn company(&self) -> Result<Option<String>, Fault> {
        let asked = scope::of_its_own(self.company_scope()?, self.origin(None));
        let company = scope::gate(self.method, &asked, self.scope(&asked))?;
        match asked {
            CompanyScope::Company(wanted) if wanted != COMPANY_ID => Err(Fault::internal(format!(
                "{}: the one company of this host is {COMPANY_ID}",
                self.method
            ))),
            _ => Ok(company),
        }
    }

    fn params<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let params = if self.params.is_empty() {
            b"{}"
        } else {
            self.params
        };
        serde_json::from_slice(params).map_err(|error| {
            Fault::internal(format!("params of {} cannot be read: {error}", self.method))
        })
    }

    fn uid(&self) -> &str {
        &self.plugin.id().uid
    }

    /// The fault a worker sees when the database fails; the details go to the host's log.
    fn stored<T>(&self, result: Result<T, DatabaseError>) -> Result<T, Fault> {
        result.map_err(|failure| {
            error!(plugin = %self.plugin.id(), method = self.method, error = chain(&failure), "database failed");
            Fault::internal(format!("{}: {failure}", self.method))
        })
    }

    async fn get_state(&self) -> Result<Bytes, Fault> {
        let key: StateKey = self.params()?;
        let value = self.stored(self.host.database.state(self.uid(), &key).await)?;
        Ok(value.map_or_else(null, Bytes::from))
    }

    async fn set_state(&self) -> Result<Bytes, Fault> {
        let key: StateKey = self.params()?;
        let StateValue { value } = self.params()?;
        if value.get() == "null" {
            return Err(Fault::internal(
                "state.set: value is null, wanted a value; state.delete removes one",
            ));
        }
        self.stored(
            self.host
                .database
                .set_state(self.uid(), &key, value.get())
                .await,
        )?;
        Ok(null())
    }

    async fn delete_state(&self) -> Result<Bytes, Fault> {
        let key: StateKey = self.params()?;
        self.stored(self.host.database.delete_state(self.uid(), &key).await)?;
        Ok(null())
    }

    async fn upsert_entity(&self) -> Result<Bytes, Fault> {
        let entity: NewEntity = self.params()?;
        let row = self.stored(self.host.database.upsert_entity(self.uid(), &entity).await)?;
        json(self.method, &row)
    }

    async fn list_entities(&self) -> Result<Bytes, Fault> {
        let query: EntityQuery = self.params()?;
        let rows = self.stored(self.host.database.entities(self.uid(), &query).await)?;
        json(self.method, &rows)
    }

    async fn emit(&self, company: Option<&str>) -> Result<Bytes, Fault> {
        let Emitted { name, payload } = self.params()?;
        if name.is_empty() || name.starts_with("plugin.") {
            return Err(Fault::internal(format!(
                "events.emit: name {name:?}, wanted a name without the prefix plugin., which the host adds"
            )));
        }
        let key = &self.pod.release().manifest.id;
        let event = Event::from_plugin(
            self.uid(),
            key,
            &name,
            company.unwrap_or(COMPANY_ID),
            payload,
        );
        self.host.publish(&event).await.map_err(|failure| {
            error!(plugin = %self.plugin.id(), event = event.event_id, error = chain(&failure), "event not published");
            Fault::internal(format!("events.emit: {failure}"))
        })?;
        Ok(null())
    }

    fn subscribe(&self) -> Result<Bytes, Fault> {
        let subscription: Subscription = self.params()?;
        self.pod.subscribe(subscription);
        Ok(null())
    }

    async fn log_activity(&self, company: Option<&str>) -> Result<Bytes, Fault> {
        let activity: Activity = self.params()?;
        self.keep("activity", &activity.message, company, &activity)
            .await
    }

    async fn write_metric(&self, company: Option<&str>) -> Result<Bytes, Fault> {
        let metric: Metric = self.params()?;
        self.keep("metric", &metric.name, company, &metric).await
    }

    /// Keeps an entry that nobody waits for.
    fn tell_log(&self) -> Result<(), Fault> {
        let params: LogParams = self.params()?;
        write_worker_log(self.plugin, &params);
        let record = LogEntry {
            plugin: self.uid().to_owned(),
            pod: self.pod.name().to_owned(),
            company: self.plugin.invocations().company(self.invocation_id),
            level: level(&params),
            message: params.message,
            meta: params.meta.map(|meta| meta.get().to_owned()),
        };
        self.host.records.keep(record, &self.host.metrics);
        Ok(())
    }

    async fn log(&self, company: Option<&str>) -> Result<Bytes, Fault> {
        let params: LogParams = self.params()?;
        write_worker_log(self.plugin, &params);
        let log = NewLog {
            plugin: self.uid(),
            company,
            level: level(&params),
            message: &params.message,
            meta: params.meta.as_ref().map(|meta| meta.get()),
            pod: self.pod.name(),
        };
        self.stored(self.host.database.record_log(log).await)?;
        Ok(null())
    }

    async fn keep(
        &self,
        level: &str,
        message: &str,
        company: Option<&str>,
        meta: &impl Serialize,
    ) -> Result<Bytes, Fault> {
        let meta = serde_json::to_string(meta).map_err(|error| {
            Fault::internal(format!("{}: write its details: {error}", self.method))
        })?;
        let log = NewLog {
            plugin: self.uid(),
            company,
            level,
            message,
            meta: Some(&meta),
            pod: self.pod.name(),
        };
        self.stored(self.host.database.record_log(log).await)?;
        Ok(null())
    }

    /// Telemetry goes nowhere from here, and a plugin that tracks must not fail for it.
    fn track(&self) -> Result<Bytes, Fault> {
        let Tracked { event_name } = self.params()?;
        let valid = event_name.len() <= EVENT_NAME_LIMIT
            && event_name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && event_name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
        if !valid {
            return Err(Fault::internal(format!(
                "telemetry.track: eventName {event_name:?}, wanted lower-case letters, digits, - and _"
            )));
        }
        debug!(plugin = %self.plugin.id(), event_name, "telemetry accepted");
        Ok(null())
    }
}

fn unreadable(method: &str, error: Unreadable) -> Fault {
    Fault::internal(format!("{method}: {error}"))
}

fn level(params: &LogParams) -> &'static str {
    match params.level.as_deref() {
        Some("debug") => "debug",
        Some("warn") => "warn",
        Some("error") => "error",
        _ => "info",
    }
}

fn write_worker_log(plugin: &Plugin, params: &LogParams) {
    let (plugin, message) = (plugin.id(), &params.message);
    let meta = params.meta.as_ref().map(|meta| meta.get());
    match level(params) {
        "debug" => debug!(%plugin, text = message, meta, "worker log"),
        "warn" => warn!(%plugin, text = message, meta, "worker log"),
        "error" => error!(%plugin, text = message, meta, "worker log"),
        _ => info!(%plugin, text = message, meta, "worker log"),
    }
}

fn null() -> Bytes {
    Bytes::from_static(b"null")
}

fn json(method: &str, value: &impl Serialize) -> Result<Bytes, Fault> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Fault::internal(format!("{method}: write the result: {error}")))
}
