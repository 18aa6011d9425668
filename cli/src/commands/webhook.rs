//! `webhook`: a delivery as an outside system would make it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::Session;
use crate::{
    args::{Header, PluginName, Source},
    error::Error,
    host::segment,
    output, payload,
};

pub(super) async fn run(
    session: &Session,
    name: &PluginName,
    endpoint: &str,
    data: &Source,
    headers: &[Header],
) -> Result<(), Error> {
    let body = payload::read(data)?;
    let headers = request_headers(headers, &body);
    let (plugin, mut host) = session.open(name).await?;
    let path = format!(
        "/api/plugins/{}/webhooks/{}",
        segment(&plugin.uid()),
        segment(endpoint)
    );
    let doing = format!(
        "post to webhook {endpoint} of plugin {}",
        plugin.full_name()
    );
    let answer = host
        .post_bytes(&doing, &path, headers, Bytes::from(body))
        .await?;
    output::answer(session.global.output, &answer, || {
        let delivery = answer["deliveryId"].as_str().unwrap_or("without an id");
        let status = answer["status"].as_str().unwrap_or("without a status");
        Ok(format!("delivery {delivery}: {status}\n"))
    })
}

fn request_headers(headers: &[Header], body: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("kubectl-paperclip/", env!("CARGO_PKG_VERSION"))),
    );
    map.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(payload::content_type(body)),
    );
    // What the user gives replaces ours; what the user gives twice is sent twice.
    for Header { name, .. } in headers {
        map.remove(name);
    }
    for Header { name, value } in headers {
        map.append(name, value.clone());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_headers_replace_ours_and_may_repeat() {
        let given: Vec<Header> = ["content-type:text/csv", "x-tag:a", "x-tag:b"]
            .map(|text| text.parse().unwrap())
            .into();
        let map = request_headers(&given, b"{}");
        assert_eq!(map[header::CONTENT_TYPE], "text/csv");
        assert_eq!(map.get_all("x-tag").iter().count(), 2);
    }
}
