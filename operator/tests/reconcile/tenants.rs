//! What happens to plugins with a registry or a credential of their own, pass by pass.

use std::sync::Arc;

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Secret},
};
use kube::{ResourceExt, runtime::watcher::Event};
use paperclip_crds::{
    labels,
    v1alpha1::{HttpSource, NpmSource, OciSource, PaperclipPlugin, PluginSource},
};
use paperclip_operator::{context::Context, plugin::reconcile};
use paperclip_packing_api::request::PackRequest;
use paperclip_testkit::{ApiServer, fixtures};
use serde_json::{Value, json};

use crate::operator;

const JOBS: &str = "/apis/batch/v1/namespaces/paperclip-system/jobs";
const LENT: &str = "/api/v1/namespaces/paperclip-system/secrets";
const OWN: &str = "https://npm.acme.example/private";

/// A namespace with one plugin, in a cluster with others.
struct Tenant {
    server: ApiServer,
    context: Arc<Context>,
    namespace: &'static str,
}

impl Tenant {
    async fn new(source: PluginSource) -> Self {
        let server = ApiServer::default();
        let mut context = operator::context_without_pods(&server).await;
        // Nobody ends the Jobs here.
        Arc::get_mut(&mut context).unwrap().args.max_packing_jobs = 100;
        server.put(
            "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main",
            &fixtures::host(),
        );
        let tenant = Self {
            server,
            context,
            namespace: "shop",
        };
        tenant.apply(source);
        tenant
    }

    /// Another namespace of the same cluster, with the same source.
    fn another(&self, source: PluginSource) -> Self {
        let another = Self {
            server: self.server.clone(),
            context: self.context.clone(),
            namespace: "bank",
        };
        another.apply(source);
        another
    }

    fn path(&self) -> String {
        let namespace = self.namespace;
        format!(
            "/apis/plugins.paperclip.ing/v1alpha1/namespaces/{namespace}/paperclipplugins/commerce"
        )
    }

    fn apply(&self, source: PluginSource) {
        let mut plugin = fixtures::plugin();
        plugin.metadata.namespace = Some(self.namespace.into());
        plugin.metadata.uid = Some(format!("uid-{}", self.namespace));
        plugin.spec.source = source;
        self.server.put(&self.path(), &plugin);
    }

    fn put_secret(&self, label: &str, key: &str, value: &str) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "pull", "labels": {labels::ALLOW_PLUGINS: label}},
            "data": {key: ByteString(value.as_bytes().to_vec())},
        }))
        .unwrap();
        let path = format!("/api/v1/namespaces/{}/secrets/pull", self.namespace);
        self.server.put(&path, &secret);
    }

    fn plugin(&self) -> PaperclipPlugin {
        serde_json::from_value(self.server.object(&self.path())).unwrap()
    }

    async fn pass(&self) {
        let pass = reconcile(Arc::new(self.plugin()), self.context.clone()).await;
        pass.unwrap();
    }

    /// Reason and message of `ArtifactReady`.
    fn says(&self) -> (String, String) {
        let conditions = self.plugin().status.unwrap().conditions;
        let found = conditions.iter().find(|one| one.type_ == "ArtifactReady");
        let found = found.unwrap();
        (found.reason.clone(), found.message.clone())
    }

    /// Jobs whose name begins so.
    fn jobs(&self, what: &str) -> Vec<Job> {
        let objects = self.server.objects();
        let jobs = objects
            .iter()
            .filter(|(path, _)| path.starts_with(&format!("{JOBS}/{what}-")));
        jobs.map(|(_, job)| serde_json::from_value(job.clone()).unwrap())
            .collect()
    }

    /// The request in the only Job whose name begins so.
    fn request(&self, what: &str) -> Value {
        let jobs = self.jobs(what);
        assert_eq!(jobs.len(), 1, "{what}");
        let job = serde_json::to_value(&jobs[0]).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        let env = &pod["containers"][0]["env"][0]["value"];
        serde_json::from_str(env.as_str().unwrap()).unwrap()
    }

    /// The step of a Job says this.
    fn ends(&self, job: &Job, step: &str, exit_code: i32, message: &Value) {
        let mut pod = fixtures::ended(step, exit_code, &message.to_string());
        pod.metadata.namespace = Some("paperclip-system".into());
        pod.metadata.name = Some(format!("{}-{step}", job.name_any()));
        pod.metadata.uid = pod.metadata.name.clone();
        let name = "batch.kubernetes.io/job-name".to_owned();
        pod.labels_mut().insert(name, job.name_any());
        let (wake, _) = tokio::sync::mpsc::unbounded_channel();
        self.context.pods.observe(Event::Apply(pod), &wake);
    }

    /// The look of this tenant ended with this integrity.
    fn looked(&self, version: &str, integrity: &str) {
        for job in self.jobs("resolve") {
            let found = json!({"ok": {"version": version, "integrity": integrity}});
            self.ends(&job, "resolve", 0, &found);
        }
    }
}

fn npm() -> PluginSource {
    PluginSource::Npm(NpmSource {
        registry: Some(OWN.into()),
        credentials_secret: Some("pull".into()),
        ..fixtures::npm()
    })
}

fn integrity(letter: &str) -> String {
    format!("sha512-{}==", letter.repeat(86))
}

#[tokio::test]
async fn a_credential_of_ones_own_must_find_the_version_before_anything_is_packed_or_found() {
    let tenant = Tenant::new(npm()).await;
    tenant.put_secret("true", "token", "t0p-s3cret");
    tenant.pass().await;
    assert_eq!(tenant.says().0, "Packing");
    let asked = tenant.request("resolve");
    assert_eq!(asked["wanted"]["npm"]["registry"], OWN);
    assert_eq!(asked["wanted"]["npm"]["range"], "1.0.0");
    assert!(tenant.jobs("pack").is_empty());

    let hash = integrity("A");
    tenant.looked("1.0.0", &hash);
    tenant.pass().await;
    let status = tenant.plugin().status.unwrap();
    let resolution = status.resolution.unwrap();
    assert_eq!(resolution.integrity, hash);
    assert_eq!(resolution.source, format!("example@1.0.0 of {OWN}"));
    let request: PackRequest = serde_json::from_value(tenant.request("pack")).unwrap();
    assert!(request.validate().is_ok());
    assert_eq!(request.registry, OWN);
    assert_eq!(request.integrity, Some(hash));
    assert_eq!(
        request.tenant.unwrap().credential,
        resolution.credential.unwrap()
    );
}

#[tokio::test]
async fn the_secret_of_a_job_is_the_jobs_and_no_other_object_holds_the_credential() {
    let tenant = Tenant::new(npm()).await;
    tenant.put_secret("true", "token", "t0p-s3cret");
    tenant.pass().await;
    tenant.looked("1.0.0", &integrity("A"));
    tenant.pass().await;
    for what in ["resolve", "pack"] {
        let job = &tenant.jobs(what)[0];
        let lent = tenant.server.object(&format!("{LENT}/{}", job.name_any()));
        assert_eq!(
            lent["metadata"]["ownerReferences"][0]["uid"],
            json!(job.uid())
        );
        let lent: Secret = serde_json::from_value(lent).unwrap();
        let text = String::from_utf8(lent.data.unwrap()["npmrc"].0.clone()).unwrap();
        assert_eq!(text, "//npm.acme.example/private/:_authToken=t0p-s3cret\n");
    }
    for (path, object) in tenant.server.objects() {
        let is_secret = path.contains("/secrets/");
        assert!(
            is_secret || !object.to_string().contains("t0p-s3cret"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_secret_that_an_operator_did_not_come_to_make_is_made_by_the_next() {
    let tenant = Tenant::new(npm()).await;
    tenant.put_secret("true", "token", "t0p");
    tenant.pass().await;
    let path = format!("{LENT}/{}", tenant.jobs("resolve")[0].name_any());
    tenant.server.remove(&path);
    tenant.pass().await;
    assert!(tenant.server.objects().contains_key(&path));
}

#[tokio::test]
async fn two_namespaces_share_neither_look_nor_job() {
    let shop = Tenant::new(npm()).await;
    shop.put_secret("true", "token", "same");
    shop.pass().await;
    shop.looked("1.0.0", &integrity("A"));
    shop.pass().await;
    let bank = shop.another(npm());
    bank.put_secret("true", "token", "same");
    bank.pass().await;
    assert_eq!(bank.jobs("resolve").len(), 2);
    assert_eq!(bank.jobs("pack").len(), 1, "the second has only asked");
    assert_eq!(bank.says().0, "Packing");
    // And who has no credential does not profit from theirs.
    let denied =
        json!({"error": {"reason": "RegistryAccessDenied", "message": "401 of the registry"}});
    let jobs = bank.jobs("resolve");
    let first = shop.plugin().status.unwrap().resolution.unwrap().credential;
    let is_second = |job: &&Job| {
        let text = serde_json::to_string(job).unwrap();
        !text.contains(first.as_deref().unwrap())
    };
    bank.ends(jobs.iter().find(is_second).unwrap(), "resolve", 1, &denied);
    bank.pass().await;
    let (reason, message) = bank.says();
    assert_eq!(reason, "RegistryAccessDenied");
    assert!(message.contains("401"), "{message}");
    assert_eq!(bank.jobs("pack").len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_secret_is_told_and_nothing_is_asked() {
    let tenant = Tenant::new(npm()).await;
    let told = async |says: &str| {
        tenant.pass().await;
        let (reason, message) = tenant.says();
        assert_eq!(reason, "SecretUnavailable");
        let field = "Secret pull of spec.source.npm.credentialsSecret";
        assert!(
            message.starts_with(field) && message.contains(says),
            "{message}"
        );
        assert!(!message.contains("hidden"), "{message}");
        assert!(tenant.jobs("resolve").is_empty() && tenant.jobs("pack").is_empty());
    };
    told("does not exist").await;
    tenant.put_secret("false", "token", "hidden");
    told("lacks the label plugins.paperclip.ing/allow-plugins=true").await;
    tenant.put_secret("true", "other", "hidden");
    told("has no key with a credential").await;
    tenant.put_secret("true", "token", "t0p");
    tenant.pass().await;
    assert_eq!(tenant.jobs("resolve").len(), 1);
}

#[tokio::test]
async fn a_credential_that_is_renewed_must_find_the_version_again_and_packs_nothing_anew() {
    let tenant = Tenant::new(npm()).await;
    tenant.put_secret("true", "token", "first");
    tenant.pass().await;
    tenant.looked("1.0.0", &integrity("A"));
    tenant.pass().await;
    let before: PackRequest = serde_json::from_value(tenant.request("pack")).unwrap();
    let mut plugin = tenant.plugin();
    let status = plugin.status.as_mut().unwrap();
    let digest = fixtures::artifact().digest.parse().unwrap();
    tenant
        .context
        .remember_manifest(digest, json!({"id": "example"}));
    status.artifact = Some(paperclip_crds::v1alpha1::ArtifactStatus {
        request: before.name(),
        ..fixtures::artifact()
    });
    tenant.server.put(&tenant.path(), &plugin);
    tenant.put_secret("true", "token", "second");
    tenant.pass().await;
    assert_eq!(tenant.jobs("resolve").len(), 2, "the new one asks");
    assert_eq!(
        tenant.says().0,
        "Succeeded",
        "what was packed goes on meanwhile"
    );
    tenant.looked("1.0.0", &integrity("A"));
    tenant.pass().await;
    assert_eq!(tenant.says().0, "Succeeded");
    assert_eq!(tenant.jobs("pack").len(), 1);
    // A registry that now says something else is another artifact.
    tenant.put_secret("true", "token", "third");
    tenant.pass().await;
    tenant.looked("1.0.0", &integrity("Q"));
    tenant.pass().await;
    assert_eq!(tenant.jobs("pack").len(), 2);
}

#[tokio::test]
async fn a_source_without_tls_is_refused_by_field_unless_the_platform_allows_it() {
    let http = || {
        PluginSource::Http(HttpSource {
            url: "http://files.example/x.tgz".into(),
            integrity: integrity("A"),
            credentials_secret: None,
        })
    };
    let npm = PluginSource::Npm(NpmSource {
        registry: Some("http://npm.acme.example".into()),
        ..fixtures::npm()
    });
    for (source, field) in [
        (http(), "spec.source.http.url"),
        (npm, "spec.source.npm.registry"),
    ] {
        let tenant = Tenant::new(source).await;
        tenant.pass().await;
        let (reason, message) = tenant.says();
        assert_eq!(reason, "PackageRefused");
        assert!(message.starts_with(field), "{message}");
        assert!(tenant.jobs("resolve").is_empty());
    }
    let mut tenant = Tenant::new(http()).await;
    Arc::get_mut(&mut tenant.context)
        .unwrap()
        .args
        .allow_insecure_sources = true;
    tenant.pass().await;
    assert_eq!(tenant.jobs("resolve").len(), 1);
}

#[tokio::test]
async fn a_tarball_is_packed_as_the_package_that_it_holds() {
    let hash = integrity("A");
    let tenant = Tenant::new(PluginSource::Http(HttpSource {
        url: "https://files.example/x.tgz".into(),
        integrity: hash.clone(),
        credentials_secret: None,
    }))
    .await;
    tenant.pass().await;
    let found = json!({"ok": {"package": "@acme/greeter", "version": "2.0.0", "integrity": hash}});
    tenant.ends(&tenant.jobs("resolve")[0], "resolve", 0, &found);
    tenant.pass().await;
    let request: PackRequest = serde_json::from_value(tenant.request("pack")).unwrap();
    assert!(request.validate().is_ok());
    assert_eq!(request.repository, "plugins/acme--greeter");
    assert_eq!(
        request.tarball.as_deref(),
        Some("https://files.example/x.tgz")
    );
    assert_eq!(request.registry, "https://registry.npmjs.org");
    assert_eq!((request.integrity, request.tenant), (Some(hash), None));
}

#[tokio::test]
async fn an_image_is_copied_under_the_digest_of_its_tag() {
    let tenant = Tenant::new(PluginSource::Oci(OciSource {
        repository: "registry.example:5000/team/greeter".into(),
        tag: Some("stable".into()),
        digest: None,
        resolve_interval_seconds: 600,
        pull_secret: Some("pull".into()),
    }))
    .await;
    let config = json!({"auths": {"registry.example:5000": {"username": "me", "password": "x"}}});
    tenant.put_secret("true", ".dockerconfigjson", &config.to_string());
    tenant.pass().await;
    let digest = format!("sha256:{}", "b".repeat(64));
    let found = json!({"ok": {"package": "greeter", "version": "2.0.0", "integrity": digest}});
    tenant.ends(&tenant.jobs("resolve")[0], "resolve", 0, &found);
    tenant.pass().await;
    let request: PackRequest = serde_json::from_value(tenant.request("pack")).unwrap();
    assert!(request.validate().is_ok());
    let image = request.image.unwrap();
    assert_eq!(image.digest.as_str(), digest);
    let owner = request.tenant.unwrap().owner;
    assert_eq!(request.repository, format!("owners/{owner}/greeter"));
    let status = tenant.plugin().status.unwrap();
    let resolution = status.resolution.unwrap();
    assert_eq!(
        resolution.source,
        "registry.example:5000/team/greeter:stable"
    );
    assert_eq!(resolution.integrity, digest);
    let lent = format!("{LENT}/{}", tenant.jobs("pack")[0].name_any());
    let lent: Secret = serde_json::from_value(tenant.server.object(&lent)).unwrap();
    assert_eq!(lent.data.unwrap()["username"].0, b"me");
}
