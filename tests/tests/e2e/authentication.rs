//! Who may use the host's API.

use anyhow::{Context, Result, ensure};

use crate::isolation::node_in_pod;
use crate::support::{HOST, HOST_NAMESPACE, Namespace, get, kubectl};

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

/// Status code of a GET with this bearer token, asked from a pod.
fn status(namespace: &Namespace, pod: &str, path: &str, token: Option<&str>) -> Result<String> {
    let header = token.map_or(String::new(), |token| {
        format!("authorization:'Bearer {token}'")
    });
    let script = format!(
        "fetch('{}{path}',{{headers:{{{header}}}}}).then(r=>console.log(r.status))",
        host_url()?
    );
    Ok(node_in_pod(namespace, pod, &script)?.trim().to_owned())
}

#[test]
fn the_host_api_answers_401_without_a_token_and_403_without_rights() -> Result<()> {
    let namespace = Namespace::create("e2e-auth")?;
    ensure!(status(&namespace, "none", "/api/plugins/x:y", None)? == "401");
    ensure!(status(&namespace, "garbage", "/api/plugins/x:y", Some("garbage"))? == "401");
    ensure!(status(&namespace, "health", "/api/health", None)? == "200");
    // A real account of the cluster without any right.
    kubectl(&[
        "create",
        "serviceaccount",
        "stranger",
        "-n",
        namespace.name(),
    ])?;
    let token = kubectl(&["create", "token", "stranger", "-n", namespace.name()])?;
    let said = status(&namespace, "stranger", "/api/plugins", Some(token.trim()))?;
    ensure!(said == "403" || said == "200", "answered {said}");
    if said == "200" {
        // A list shows what the caller may see: here, nothing.
        let script = format!(
            "fetch('{}/api/plugins',{{headers:{{authorization:'Bearer {}'}}}}).then(r=>r.text()).then(t=>console.log(t))",
            host_url()?,
            token.trim()
        );
        let list = node_in_pod(&namespace, "stranger-list", &script)?;
        ensure!(list.trim() == "[]", "{list}");
    }
    Ok(())
}
