//! A host of a few lines: config and state in memory, over the real client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    client::{self, CallError, Incoming, SessionSender},
    v1::{HostHello, PluginHello, Request, RpcError},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::pod::{Pod, host, plugin};

/// Where an announced config is kept, beside the worker's own keys.
const CONFIG: &str = "announced config";

#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<BTreeMap<String, Value>>>);

impl Store {
    pub fn get(&self, key: &str) -> Option<Value> {
        self.0.lock().unwrap().get(key).cloned()
    }

    /// The config that the pod announced last.
    pub fn config(&self) -> Value {
        self.get(CONFIG).unwrap_or_default()
    }
}

pub struct Host {
    pub hello: PluginHello,
    pub sender: SessionSender,
}

impl Host {
    /// Attaches to a pod and serves its worker from `store`.
    pub async fn attach(pod: &Pod, store: &Store) -> Self {
        let (hello, sender, incoming) = connect(pod).await;
        let config = serde_json::from_slice(&hello.config_json).unwrap();
        tokio::spawn(serve(sender.clone(), incoming, store.clone(), config));
        Self { hello, sender }
    }

    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        self.call_as(method, params, Bytes::new()).await
    }

    pub async fn call_as(
        &self,
        method: &str,
        params: Value,
        invocation: Bytes,
    ) -> Result<Value, CallError> {
        let params = Bytes::from(params.to_string());
        let timeout = Duration::from_secs(15);
        let result = self
            .sender
            .call(method, params, invocation, timeout, false)
            .await?;
        Ok(serde_json::from_slice(&result).unwrap())
    }
}

pub async fn connect(
    pod: &Pod,
) -> (
    PluginHello,
    SessionSender,
    mpsc::UnboundedReceiver<Incoming>,
) {
    let tls = pod.authority.client(&host());
    let hello = HostHello {
        host_namespace: "paperclip".into(),
        host_name: "main".into(),
        replica: "test".into(),
        ..HostHello::default()
    };
    let address = pod.address().await;
    let connected = client::connect(address, &tls, &plugin(), hello).await;
    let (hello, sender, receiver) = connected.unwrap();
    (hello, sender, receiver.into_queue())
}

async fn serve(
    sender: SessionSender,
    mut incoming: mpsc::UnboundedReceiver<Incoming>,
    store: Store,
    config: Value,
) {
    while let Some(message) = incoming.recv().await {
        if let Incoming::Config(changed) = &message {
            let config = serde_json::from_slice(&changed.config_json).unwrap();
            store.0.lock().unwrap().insert(CONFIG.into(), config);
        }
        if let Incoming::Request(request) = message {
            let outcome = answer(&request, &store, &config);
            let outcome = outcome.map(|value| Bytes::from(value.to_string()));
            let _ = sender.respond(request.id, outcome).await;
        }
    }
}

fn answer(request: &Request, store: &Store, config: &Value) -> Result<Value, RpcError> {
    let params: Value = serde_json::from_slice(&request.params_json).unwrap_or_default();
    let key = params["stateKey"].as_str().unwrap_or_default().to_owned();
    let mut values = store.0.lock().unwrap();
    match request.method.as_str() {
        "config.get" => Ok(values.get(CONFIG).unwrap_or(config).clone()),
        "state.get" => Ok(values.get(&key).cloned().unwrap_or(Value::Null)),
        "state.set" => {
            values.insert(key, params["value"].clone());
            Ok(Value::Null)
        }
        "echo" => Ok(params),
        "log" | "events.subscribe" => Ok(json!(null)),
        other => Err(RpcError::new(-32601, format!("{other} is not served here"))),
    }
}
