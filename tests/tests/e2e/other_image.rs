//! Another build of one of the platform's images, for tests that need two that differ.

use anyhow::{Context, Result};
use paperclip_tests::block_on;
use reqwest::{Client, Response, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::cluster;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes a copy of an image that differs from it by a label, and so by its digest, which is
/// returned. What runs in it is the same.
pub fn another_image(name: &str) -> Result<String> {
    let image = Image {
        client: Client::new(),
        url: format!("http://{}/v2/{name}", cluster().registry()),
    };
    let tag = cluster().image_tag()?;
    block_on(image.copy(&tag))
}

struct Image {
    client: Client,
    url: String,
}

impl Image {
    async fn copy(&self, tag: &str) -> Result<String> {
        let mut manifest = self.get(&format!("manifests/{tag}")).await?;
        let config = manifest["config"]["digest"].as_str().context("a config")?;
        let mut config = self.get(&format!("blobs/{config}")).await?;
        config["config"]["Labels"]["ing.paperclip.test"] = json!("another build");
        let config = config.to_string();
        let digest = digest_of(&config);
        manifest["config"]["size"] = json!(config.len());
        manifest["config"]["digest"] = json!(digest);
        self.upload(config, &digest).await?;
        let manifest = manifest.to_string();
        let digest = digest_of(&manifest);
        let request = self.client.put(format!("{}/manifests/{digest}", self.url));
        let request = request.header(header::CONTENT_TYPE, MANIFEST);
        successful(request.body(manifest)).await?;
        Ok(digest)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}/{path}", self.url));
        let answer = successful(request.header(header::ACCEPT, MANIFEST)).await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    async fn upload(&self, blob: String, digest: &str) -> Result<()> {
        let begun = format!("{}/blobs/uploads/", self.url);
        let begun = successful(self.client.post(begun)).await?;
        let location = begun.headers().get(header::LOCATION);
        let location = location.context("where to upload to")?.to_str()?;
        let mut target = begun.url().join(location)?;
        target.query_pairs_mut().append_pair("digest", digest);
        successful(self.client.put(target).body(blob))
            .await
            .map(drop)
    }
}

async fn successful(request: reqwest::RequestBuilder) -> Result<Response> {
    Ok(request.send().await?.error_for_status()?)
}

fn digest_of(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}
