//! Who may use the host's API: asked from this machine, beside a plugin that is Ready.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    load::host_address,
    support::{COLD, HOST, HOST_NAMESPACE, Namespace, get, kubectl},
};

const PLUGIN: &str = "greeter";
const EXAMPLE: &str = include_str!("../../../examples/greeter.yaml");

/// URL of the host's Service, as pods reach it.
pub fn host_url() -> Result<String> {
    let host = get(&["papercliphost", HOST, "-n", HOST_NAMESPACE])?;
    let service = host["spec"]["service"]["name"]
        .as_str()
        .context("service name")?;
    let address = get(&["service", service, "-n", HOST_NAMESPACE])?;
    let ip = address["spec"]["clusterIP"]
        .as_str()
        .context("cluster address")?
        .to_owned();
    let port = host["spec"]["service"]["port"].as_i64().context("port")?;
    Ok(format!("http://{ip}:{port}"))
}

/// The host's API, as one caller sees it.
struct Caller {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Caller {
    fn new(token: Option<&str>) -> Result<Self> {
        Ok(Self {
            client: reqwest::Client::new(),
            url: host_address()?,
            token: token.map(|token| token.trim().to_owned()),
        })
    }

    /// Status and body of an answer.
    async fn request(&self, method: Method, path: &str) -> Result<(u16, Value)> {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if method == Method::POST {
            request = request.json(&json!({}));
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn get(&self, path: &str) -> Result<(u16, Value)> {
        self.request(Method::GET, path).await
    }

    /// Plugins of the list that this caller gets, by their uid.
    async fn listed(&self) -> Result<BTreeSet<String>> {
        let (status, list) = self.get("/api/plugins").await?;
        ensure!(status == 200, "{status} {list}");
        let list = list.as_array().context("a list")?;
        let ids = list.iter().map(|one| one["id"].as_str().context("an id"));
        ids.map(|id| Ok(id?.to_owned())).collect()
    }
}

#[tokio::test]
async fn without_a_token_the_api_answers_401_and_an_account_without_rights_sees_nothing()
-> Result<()> {
    let namespace = Namespace::create("e2e-auth")?;
    let ns = namespace.name();
    namespace.apply(EXAMPLE)?;
    kubectl(&["create", "serviceaccount", "stranger", "-n", ns])?;
    namespace.wait_ready(PLUGIN, COLD)?;
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
    let uid = plugin["metadata"]["uid"].as_str().context("uid")?;
    let (by_uid, by_name) = (
        format!("/api/plugins/{uid}"),
        format!("/api/plugins/{ns}:{PLUGIN}"),
    );
    let paths = [by_uid.as_str(), by_name.as_str()];

    for token in [None, Some("garbage")] {
        let nobody = Caller::new(token)?;
        ensure!(nobody.get("/api/health").await?.0 == 200);
        for path in ["/api/plugins", "/api/plugins/tools"]
            .into_iter()
            .chain(paths)
        {
            let (status, said) = nobody.get(path).await?;
            ensure!(status == 401, "{path} with {token:?}: {status} {said}");
        }
    }

    // Who may read plugins gets the one that is there, so that an empty list is no accident.
    let client = kubectl(&[
        "create",
        "token",
        &format!("{HOST}-client"),
        "-n",
        HOST_NAMESPACE,
    ])?;
    let client = Caller::new(Some(&client))?;
    ensure!(client.listed().await?.contains(uid), "no {uid} in the list");
    let (_, tools) = client.get("/api/plugins/tools").await?;
    ensure!(
        tools.to_string().contains(uid),
        "no tool of {uid} in {tools}"
    );
    for path in paths {
        let (status, record) = client.get(path).await?;
        ensure!(
            status == 200 && record["id"] == uid,
            "{path}: {status} {record}"
        );
    }

    // A real account of the cluster without any right.
    let token = kubectl(&["create", "token", "stranger", "-n", ns])?;
    let stranger = Caller::new(Some(&token))?;
    for list in ["/api/plugins", "/api/plugins/tools"] {
        let (status, seen) = stranger.get(list).await?;
        ensure!(
            status == 200 && seen == json!([]),
            "{list}: {status} {seen}"
        );
    }
    for path in paths {
        let (status, said) = stranger.get(path).await?;
        ensure!(status == 403, "{path}: {status} {said}");
    }
    let (status, said) = stranger
        .request(Method::POST, &format!("{by_uid}/data/greeting"))
        .await?;
    ensure!(status == 403, "{status} {said}");
    Ok(())
}
