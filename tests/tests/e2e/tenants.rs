//! Sources with a credential of the plugin's own: what one namespace may have, another gets only
//! by its own means, and nobody's registry decides what others run.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        StatusCode,
        header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use paperclip_tests::block_on;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use crate::isolation::node_in_pod;
use crate::support::{
    COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, WARM, cluster, condition, eventually, get,
    kubectl, publish, publish_settings,
};

const PLUGIN: &str = "settings";
const PACKAGE: &str = "paperclip-plugin-test-settings";
/// The package of `examples/private-npm.yaml`.
const BILLING: &str = "@acme/paperclip-plugin-billing";
const PRIVATE_NPM: &str = include_str!("../../../examples/private-npm.yaml");
const TARBALL: &str = include_str!("../../../examples/tarball.yaml");
const PROMOTED: &str = include_str!("../../../examples/promoted.yaml");
const SECRET: &str = "pull";
const TOKEN: &str = "opens-the-registry-of-the-test";

/// What the registry of a test answers by itself.
#[derive(Clone)]
enum Answer {
    File(Vec<u8>),
    Redirect(&'static str),
    /// A body without an end.
    Endless,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::File(content) => content.into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
            Self::Endless => {
                let piece = || Ok::<_, std::convert::Infallible>(vec![b'x'; 1 << 20]);
                let pieces = std::iter::repeat_with(piece);
                Body::from_stream(futures::stream::iter(pieces)).into_response()
            }
        }
    }
}

/// A registry over TLS that wants a token: answers of its own, and behind them the cluster's npm
/// registry. It ends with the process.
struct Registry {
    url: String,
    authority: String,
}

impl Registry {
    fn start(files: BTreeMap<String, Answer>) -> Result<Self> {
        let inside = cluster().npm().url_in_cluster();
        let bridge = inside
            .strip_prefix("http://")
            .and_then(|rest| rest.split(':').next());
        let bridge = bridge.context("the address of the bridge")?.to_owned();
        let (told, hear) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let served = runtime
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(serve(&bridge, files, &told)));
            if let Err(error) = served {
                eprintln!("the registry of the test: {error:#}");
            }
        });
        hear.recv_timeout(Duration::from_secs(10))
            .context("the registry of the test listens")
    }

    /// The Secret of a namespace that opens it, or does not.
    fn secret(&self, token: &str) -> String {
        secret(json!({
            "type": "Opaque", "stringData": {"token": token, "ca.crt": self.authority},
        }))
    }
}

fn secret(content: Value) -> String {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET, "labels": {"plugins.paperclip.ing/allow-plugins": "true"}},
    });
    if let (Some(secret), Value::Object(content)) = (secret.as_object_mut(), content) {
        secret.extend(content);
    }
    secret.to_string()
}

async fn serve(
    bridge: &str,
    files: BTreeMap<String, Answer>,
    told: &std::sync::mpsc::Sender<Registry>,
) -> Result<()> {
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let behind = plain.local_addr()?;
    let files = Arc::new(files);
    let router = Router::new().fallback(move |request: Request| answer(files.clone(), request));
    tokio::spawn(async move { axum::serve(plain, router).await });

    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![SanType::IpAddress(bridge.parse()?)];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((bridge, 0)).await?;
    told.send(Registry {
        url: format!("https://{}", listener.local_addr()?),
        authority: certificate.pem(),
    })?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move { pass_on(acceptor, stream, behind).await });
    }
}

/// Takes the TLS off.
async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, behind: SocketAddr) -> Result<()> {
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(behind).await?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

async fn answer(files: Arc<BTreeMap<String, Answer>>, request: Request) -> Response {
    let wanted = format!("Bearer {TOKEN}");
    let authorization = request.headers().get(AUTHORIZATION);
    if authorization.is_none_or(|found| found != wanted.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(file) = files.get(request.uri().path()) {
        return file.clone().into_response();
    }
    let url = format!("{}{}", cluster().npm().url_on_this_machine(), request.uri());
    let mut asked = reqwest::Client::new().get(url);
    if let Some(accept) = request.headers().get(ACCEPT) {
        asked = asked.header(ACCEPT, accept.clone());
    }
    let Ok(answer) = asked.send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    let content = answer.bytes().await.unwrap_or_default();
    let mut response = (status, content).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

/// What the cluster's registry says of a version.
fn published(package: &str, version: &str) -> Result<Value> {
    let url = cluster().npm().url_on_this_machine();
    block_on(async {
        let answer = reqwest::get(format!("{url}/{package}/{version}")).await?;
        Ok(answer.error_for_status()?.json().await?)
    })
}

fn integrity_of(package: &str, version: &str) -> Result<String> {
    let published = published(package, version)?;
    let integrity = published["dist"]["integrity"].as_str();
    Ok(integrity.context("an integrity")?.to_owned())
}

fn apply(namespace: &Namespace, source: &Value) -> Result<()> {
    let plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "source": source,
            "config": {"default": {"colour": "red"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
        },
    });
    namespace.apply(&plugin.to_string()).map(drop)
}

fn status(namespace: &Namespace) -> Result<Value> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    Ok(plugin["status"].clone())
}

/// Waits for a condition `ArtifactReady` with this reason, and gives message and status.
fn wait_reason(namespace: &Namespace, reason: &str) -> Result<(String, Value)> {
    eventually(&format!("{reason} in {}", namespace.name()), COLD, || {
        let status = status(namespace)?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let stage = conditions.iter().find(|one| one["type"] == "ArtifactReady");
        let stage = stage.context("ArtifactReady")?;
        ensure!(stage["reason"] == reason, "{stage}");
        let message = stage["message"].as_str().unwrap_or_default().to_owned();
        Ok((message, status))
    })
}

fn npm(registry: &Registry, version: &str) -> Value {
    npm_of(registry, PACKAGE, version)
}

fn npm_of(registry: &Registry, package: &str, version: &str) -> Value {
    json!({"npm": {
        "package": package, "version": version,
        "registry": registry.url, "credentialsSecret": SECRET,
    }})
}

/// An example with each of these texts, which it has once, replaced, and with the config that the
/// plugin of these tests must have.
fn example(text: &str, replacements: &[(&str, &str)]) -> Result<String> {
    let mut text = text.to_owned();
    for (from, to) in replacements {
        ensure!(text.matches(from).count() == 1, "{from:?} in {text}");
        text = text.replace(from, to);
    }
    Ok(text + "  config: {default: {colour: red}}\n")
}

/// The package of the example, as a release of the plugin of these tests.
fn publish_billing(version: &str) -> Result<()> {
    let renamed = [
        ("\"1.0.0\"", format!("\"{version}\"")),
        (PACKAGE, BILLING.to_owned()),
    ];
    let files = ["package.json", "manifest.js", "worker.js"];
    publish("tests/plugins/settings", version, &files, &renamed)
}

#[test]
fn a_private_package_is_for_namespaces_whose_own_credential_opens_it() -> Result<()> {
    publish_billing("1.2.7")?;
    let registry = Registry::start(BTreeMap::new())?;
    let first = Namespace::create("e2e-tenants-first")?;
    let credential = format!("{TOKEN}\n  ca.crt: {:?}", registry.authority);
    first.apply(&example(
        PRIVATE_NPM,
        &[
            ("https://npm.acme.example/", &registry.url),
            ("token: replace-me", &format!("token: {credential}")),
        ],
    )?)?;
    first.wait_ready("billing", COLD)?;
    let packed = get(&["paperclipplugin", "billing", "-n", first.name()])?["status"].clone();
    ensure!(
        packed["resolution"]["integrity"] == integrity_of(BILLING, "1.2.7")?,
        "{packed}"
    );

    // It is in the store, and another namespace names the same registry and version.
    let second = Namespace::create("e2e-tenants-second")?;
    second.apply(&registry.secret("opens-nothing"))?;
    apply(&second, &npm_of(&registry, BILLING, "1.2.7"))?;
    let (message, denied) = wait_reason(&second, "RegistryAccessDenied")?;
    ensure!(message.contains("401"), "{message}");
    ensure!(denied["artifact"].is_null(), "{denied}");
    let without = Namespace::create("e2e-tenants-without")?;
    let source = json!({"npm": {"package": BILLING, "version": "1.2.7", "registry": registry.url}});
    apply(&without, &source)?;
    // The authority is in nobody's Secret there, so the answer is not even read.
    let (_, denied) = wait_reason(&without, "RegistryUnavailable")?;
    ensure!(denied["artifact"].is_null(), "{denied}");
    // It would ask for ever, and have a Secret lent each time.
    drop(without);

    // With a credential that opens it, it gets what the first has: equal inputs, equal bytes.
    second.apply(&registry.secret(TOKEN))?;
    let (_, allowed) = wait_reason(&second, "Succeeded")?;
    ensure!(
        allowed["artifact"]["digest"] == packed["artifact"]["digest"],
        "{allowed}"
    );

    // What Jobs were lent goes with them.
    let packer = "app.kubernetes.io/name=paperclip-packer";
    kubectl(&[
        "delete",
        "jobs",
        "-n",
        PLATFORM_NAMESPACE,
        "-l",
        packer,
        "--wait",
    ])?;
    eventually("the Secrets of the Jobs to be gone", WARM, || {
        let secrets = get(&["secrets", "-n", PLATFORM_NAMESPACE])?;
        let secrets = secrets["items"].as_array().context("items")?;
        let lent = secrets
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str());
        let lent: Vec<_> = lent
            .filter(|name| name.starts_with("resolve-") || name.starts_with("pack-"))
            .collect();
        ensure!(lent.is_empty(), "{lent:?}");
        Ok(())
    })
}

/// What the store answers, asked from inside a pod: a line a request, `<method> <port> <path>
/// <status>`.
fn ask_store(from: &Namespace, token: &str, requests: &[(&str, u16, &str)]) -> Result<String> {
    let access = get(&["secret", "paperclip-store-read", "-n", PLATFORM_NAMESPACE])?;
    let authority = access["data"]["ca.crt"].as_str().context("ca.crt")?;
    let script = format!(
        "const https = require('node:https');
         const ca = Buffer.from({authority:?}, 'base64');
         const host = 'paperclip-store.{PLATFORM_NAMESPACE}.svc';
         // Without these types the registry says that it has no such manifest.
         const types = ['manifest', 'index'].map((kind) => `application/vnd.oci.image.${{kind}}.v1+json`);
         const headers = {{ accept: types.join(', ') }};
         if ({token:?} !== '') headers.authorization = 'Bearer ' + {token:?};
         const ask = ([method, port, path]) => new Promise((done, failed) => {{
           const request = https.request({{ method, host, port, path, ca, headers }}, (answer) => {{
             answer.resume().on('end', () => done([method, port, path, answer.statusCode].join(' ')));
           }});
           request.on('error', failed).end();
         }});
         (async () => {{
           for (const one of {requests}) console.log(await ask(one));
         }})();",
        requests = json!(requests),
    );
    node_in_pod(from, "ask", &script)
}

/// The token that the pods of a namespace's plugin pull with.
fn token_of(namespace: &Namespace) -> Result<String> {
    eventually("the pull token", COLD, || {
        let name = format!("pcp-{PLUGIN}-store");
        let secret = get(&["secret", &name, "-n", namespace.name()])?;
        let data = &secret["data"];
        ensure!(
            data["password"].is_null() && data["username"].is_null(),
            "{name} holds a credential"
        );
        let token = data["token"].as_str().context("a token")?;
        Ok(String::from_utf8(BASE64_STANDARD.decode(token)?)?)
    })
}

#[test]
fn a_pull_token_opens_the_repository_of_its_plugin_and_no_other() -> Result<()> {
    publish_settings("4.5.0")?;
    let registry = Registry::start(BTreeMap::new())?;
    let first = Namespace::create("e2e-tenants-token-first")?;
    first.apply(&registry.secret(TOKEN))?;
    apply(&first, &npm(&registry, "4.5.0"))?;
    let (_, private) = wait_reason(&first, "Succeeded")?;
    // Its id is one plugin's at a time. What was packed stays.
    kubectl(&["delete", "pcp", PLUGIN, "-n", first.name(), "--wait"])?;
    // The same package from the platform's registry: the same bytes, and for everybody.
    let second = Namespace::create("e2e-tenants-token-second")?;
    let public = json!({"npm": {"package": PACKAGE, "version": "4.5.0"}});
    apply(&second, &public)?;
    let (_, public) = wait_reason(&second, "Succeeded")?;
    let of = |status: &Value, what: &str| {
        let text = status["artifact"][what].as_str();
        text.map(str::to_owned).context("an artifact")
    };
    let digest = of(&public, "digest")?;
    ensure!(of(&private, "digest")? == digest, "{private}");
    let (own, others) = (of(&public, "repository")?, of(&private, "repository")?);
    let manifest = |repository: &str| format!("/v2/{repository}/manifests/{digest}");
    let (own_manifest, others_manifest) = (manifest(&own), manifest(&others));
    let (tags, upload) = (
        format!("/v2/{others}/tags/list"),
        format!("/v2/{own}/blobs/uploads/"),
    );
    let said = ask_store(
        &second,
        &token_of(&second)?,
        &[
            ("GET", 5002, &own_manifest),
            ("GET", 5002, &others_manifest),
            ("GET", 5002, &tags),
            ("GET", 5002, "/v2/_catalog"),
            ("POST", 5002, &upload),
            ("DELETE", 5002, &own_manifest),
            ("GET", 5000, &own_manifest),
            ("POST", 5001, &upload),
        ],
    )?;
    let codes: Vec<_> = said
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    ensure!(codes.first() == Some(&"200"), "{said}");
    ensure!(codes.len() == 8, "{said}");
    let refused = |code: &&str| matches!(*code, "401" | "403" | "405");
    ensure!(codes.iter().skip(1).all(refused), "{said}");
    kubectl(&["delete", "pod", "ask", "-n", second.name(), "--wait"])?;
    let said = ask_store(&second, "", &[("GET", 5002, &own_manifest)])?;
    ensure!(said.trim_end().ends_with(" 401"), "{said}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_credential_is_told_by_name() -> Result<()> {
    publish_settings("4.1.0")?;
    let registry = Registry::start(BTreeMap::new())?;
    let namespace = Namespace::create("e2e-tenants-secret")?;
    apply(&namespace, &npm(&registry, "4.1.0"))?;
    let told = |says: &str| {
        eventually(says, WARM, || {
            let (message, _) = wait_reason(&namespace, "SecretUnavailable")?;
            ensure!(message.contains(says), "{message}");
            ensure!(message.contains("credentialsSecret"), "{message}");
            Ok(())
        })
    };
    told("does not exist")?;
    let closed = registry
        .secret(TOKEN)
        .replace("plugins.paperclip.ing/allow-plugins", "example/none");
    namespace.apply(&closed)?;
    told("lacks the label")?;
    kubectl(&["delete", "secret", SECRET, "-n", namespace.name()])?;
    namespace.apply(&secret(
        json!({"type": "Opaque", "stringData": {"other": "x"}}),
    ))?;
    told("has no key with a credential")
}

/// The package of the test with another worker, as a tarball.
fn forged(version: &str) -> Result<Vec<u8>> {
    let source = paperclip_tests::platform::repository().join("tests/plugins/settings");
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for file in ["package.json", "manifest.js", "worker.js"] {
        let mut text = std::fs::read_to_string(source.join(file))?;
        text = text.replace("\"1.0.0\"", &format!("\"{version}\""));
        if file == "worker.js" {
            text += "\n// forged\n";
        }
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, format!("package/{file}"), text.as_bytes())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

#[test]
fn a_registry_that_lies_is_believed_by_nobody_else() -> Result<()> {
    publish_settings("4.2.0")?;
    let tarball = forged("4.2.0")?;
    let integrity = format!(
        "sha512-{}",
        BASE64_STANDARD.encode(Sha512::digest(&tarball))
    );
    let mut described = published(PACKAGE, "4.2.0")?;
    described["dist"] =
        json!({"integrity": integrity, "tarball": "https://elsewhere.invalid/x.tgz"});
    let document = json!({
        "name": PACKAGE, "dist-tags": {"latest": "4.2.0"}, "versions": {"4.2.0": described},
    });
    let registry = Registry::start(BTreeMap::from([
        (
            format!("/{PACKAGE}"),
            Answer::File(document.to_string().into_bytes()),
        ),
        (
            format!("/{PACKAGE}/-/{PACKAGE}-4.2.0.tgz"),
            Answer::File(tarball),
        ),
    ]))?;
    let liar = Namespace::create("e2e-tenants-liar")?;
    liar.apply(&registry.secret(TOKEN))?;
    apply(&liar, &npm(&registry, "4.2.0"))?;
    let (_, forged) = wait_reason(&liar, "Succeeded")?;
    ensure!(forged["resolution"]["integrity"] == integrity, "{forged}");

    let honest = Namespace::create("e2e-tenants-honest")?;
    let platforms = json!({"npm": {"package": PACKAGE, "version": "4.2.0"}});
    apply(&honest, &platforms)?;
    let (_, packed) = wait_reason(&honest, "Succeeded")?;
    ensure!(
        packed["artifact"]["digest"] != forged["artifact"]["digest"],
        "{packed}"
    );
    // By range it is looked up, and what is found is what the platform's registry has.
    apply(
        &honest,
        &json!({"npm": {"package": PACKAGE, "range": "4.2.0"}}),
    )?;
    eventually("the range to be looked up", COLD, || {
        let status = status(&honest)?;
        let found = &status["resolution"]["integrity"];
        ensure!(*found == integrity_of(PACKAGE, "4.2.0")?, "{status}");
        Ok(())
    })
}

#[test]
fn a_tarball_by_url_serves_and_one_with_another_hash_is_refused() -> Result<()> {
    publish_settings("4.3.0")?;
    let registry = Registry::start(BTreeMap::new())?;
    let namespace = Namespace::create("e2e-tenants-tarball")?;
    namespace.apply(&registry.secret(TOKEN))?;
    let source = |integrity: &str| {
        json!({"http": {
            "url": format!("{}/{PACKAGE}/-/{PACKAGE}-4.3.0.tgz", registry.url),
            "integrity": integrity, "credentialsSecret": SECRET,
        }})
    };
    let wrong = BASE64_STANDARD.encode(Sha512::digest(b"another"));
    apply(&namespace, &source(&format!("sha512-{wrong}")))?;
    let (message, _) = wait_reason(&namespace, "PackageRefused")?;
    let found =
        BASE64_STANDARD.decode(integrity_of(PACKAGE, "4.3.0")?.trim_start_matches("sha512-"))?;
    for part in [&found, &BASE64_STANDARD.decode(&wrong)?] {
        ensure!(message.contains(&hex::encode(part)), "{message}");
    }
    kubectl(&["delete", "pcp", PLUGIN, "-n", namespace.name(), "--wait"])?;
    let integrity = format!(
        "{}\n      credentialsSecret: {SECRET}",
        integrity_of(PACKAGE, "4.3.0")?
    );
    let (_, hash) = TARBALL.split_once("integrity: ").context("a hash")?;
    let hash = hash.lines().next().context("a hash")?;
    namespace.apply(&example(
        TARBALL,
        &[
            (
                "https://files.acme.example/plugins/reports-2.0.1.tgz",
                &format!("{}/{PACKAGE}/-/{PACKAGE}-4.3.0.tgz", registry.url),
            ),
            (hash, &integrity),
        ],
    )?)?;
    namespace.wait_ready("reports", COLD)?;
    let status = get(&["paperclipplugin", "reports", "-n", namespace.name()])?["status"].clone();
    ensure!(status["artifact"]["version"] == "4.3.0", "{status}");
    ensure!(status["resolution"]["package"] == PACKAGE, "{status}");
    Ok(())
}

#[test]
fn answers_without_an_end_and_ways_into_the_node_are_refused_by_name() -> Result<()> {
    let integrity = format!(
        "sha512-{}",
        BASE64_STANDARD.encode(Sha512::digest(b"anything"))
    );
    let cases = [
        ("/endless.tgz", Answer::Endless, "answer-size"),
        (
            "/metadata.tgz",
            Answer::Redirect("http://169.254.169.254/latest/"),
            "169.254.169.254",
        ),
        (
            "/loopback.tgz",
            Answer::Redirect("https://127.0.0.1:10250/pods"),
            "127.0.0.1",
        ),
        (
            "/mapped.tgz",
            Answer::Redirect("https://[::ffff:7f00:1]/"),
            "address",
        ),
        ("/file.tgz", Answer::Redirect("file:///etc/passwd"), "file"),
    ];
    let answers = cases.iter();
    let answers = answers.map(|(path, answer, _)| ((*path).to_owned(), answer.clone()));
    let registry = Registry::start(answers.collect())?;
    let namespace = Namespace::create("e2e-tenants-traps")?;
    namespace.apply(&registry.secret(TOKEN))?;
    for (path, _, says) in cases {
        let url = format!("{}{path}", registry.url);
        let source = json!({"http": {
            "url": url, "integrity": integrity, "credentialsSecret": SECRET,
        }});
        apply(&namespace, &source)?;
        eventually(path, COLD, || {
            let (message, status) = wait_reason(&namespace, "PackageRefused")?;
            ensure!(
                message.contains(says),
                "{path}: {says:?} is not in {message:?}"
            );
            ensure!(status["artifact"].is_null(), "{status}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn an_artifact_of_another_registry_is_copied_under_its_digest() -> Result<()> {
    publish_settings("4.4.0")?;
    let maker = Namespace::create("e2e-tenants-maker")?;
    apply(
        &maker,
        &json!({"npm": {"package": PACKAGE, "version": "4.4.0"}}),
    )?;
    let (_, made) = wait_reason(&maker, "Succeeded")?;
    let digest = made["artifact"]["digest"].clone();
    let repository = made["artifact"]["repository"].as_str();
    let repository = repository.context("a repository")?;

    // The cluster's own store plays the registry of another cluster.
    let store = format!("paperclip-store.{PLATFORM_NAMESPACE}.svc:5000");
    let access = get(&["secret", "paperclip-store-read", "-n", PLATFORM_NAMESPACE])?;
    let text = |key: &str| -> Result<String> {
        let value = access["data"][key].as_str().context("a key")?;
        Ok(String::from_utf8(BASE64_STANDARD.decode(value)?)?)
    };
    let login = json!({"username": text("username")?, "password": text("password")?});
    let config = json!({ "auths": { store.as_str(): login } });
    let namespace = Namespace::create("e2e-tenants-image")?;
    let place = format!("{store}/{repository}");
    let (_, staged) = PROMOTED.split_once("digest: ").context("a digest")?;
    let staged = staged.lines().next().context("a digest")?;
    let login = format!("{config}\n  ca.crt: {:?}", text("ca.crt")?);
    let promoted = example(
        PROMOTED,
        &[
            (
                r#"{"auths": {"registry.acme.example": {"username": "reader", "password": "replace-me"}}}"#,
                &login,
            ),
            (
                "registry.acme.example/plugins/paperclip-plugin-bcp-commerce",
                &place,
            ),
            (staged, digest.as_str().context("a digest")?),
        ],
    )?;
    namespace.apply(&promoted)?;
    let copied = eventually("the artifact to be copied", COLD, || {
        let plugin = get(&["paperclipplugin", "commerce", "-n", namespace.name()])?;
        let stage = condition(&plugin, "ArtifactReady");
        ensure!(stage["reason"] == "Succeeded", "{stage}");
        Ok(plugin["status"].clone())
    })?;
    ensure!(copied["artifact"]["digest"] == digest, "{copied}");
    ensure!(copied["artifact"]["version"] == "4.4.0", "{copied}");

    let by_tag = json!({"oci": {
        "repository": place, "tag": "no-such-tag", "pullSecret": "staging-registry",
    }});
    apply(&namespace, &by_tag)?;
    let (message, _) = wait_reason(&namespace, "VersionNotFound")?;
    ensure!(message.contains("no-such-tag"), "{message}");
    Ok(())
}
