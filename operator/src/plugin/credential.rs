//! A registry or a credential of a plugin's own: read by name from the plugin's namespace, and
//! lent to one Job in a Secret that goes with it.
//!
//! The Job's step that downloads has it, and nothing else. Who brings a credential is a tenant
//! to the packing steps: see [`Tenant`].

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Secret},
};
use kube::{Api, Resource, ResourceExt, api::ObjectMeta};
use paperclip_crds::{
    labels,
    v1alpha1::{PluginSource, Reason},
};
use paperclip_oci::docker_config;
use paperclip_packing_api::{login::Login, request::Tenant};

use super::{Plugin, conditions::Finding, error::ReconcileError, references};
use crate::{
    apply::{ApplyError, apply_unsealed},
    context::Context,
    fingerprint::Fingerprints,
    secrets::OPAQUE,
};

const NPMRC: &str = ".npmrc";
const TOKEN: &str = "token";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const AUTHORITY: &str = "ca.crt";
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// Credential of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its owner.
    pub tenant: Tenant,
    /// Files that the steps read: names and texts. The finding says why there are none.
    files: Result<BTreeMap<String, String>, Finding>,
}

impl Access {
    /// Why the Secret cannot be had, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Finding> {
        self.files.as_ref().err()
    }
}

/// Credential of a source for its registry; `None` where the platform's own is used.
///
/// # Errors
/// When the API server fails.
pub async fn access(context: &Context, plugin: &Plugin) -> Result<Option<Access>, ReconcileError> {
    let source = &plugin.spec.source;
    let place = own_registry(source, &context.args.npm_registry);
    let credential = source.credential();
    if place.is_none() && credential.is_none() {
        return Ok(None);
    }
    let mut files = match credential {
        Some((field, name)) => {
            let found = references::secret(context, plugin, name).await?;
            let namespace = &plugin.key.namespace;
            let default = &context.args.npm_registry;
            let create = format!("Create it in namespace {namespace}");
            references::open(found, field, (name, namespace), &create)
                .and_then(|secret| files(source, default, field, &secret))
        }
        None => Ok(BTreeMap::new()),
    };
    if matches!(source, PluginSource::Npm(_))
        && let Ok(files) = &mut files
        && !files.contains_key(AUTHORITY)
        && let Some(authority) = platform_authority(context).await?
    {
        files.insert(AUTHORITY.into(), authority);
    }
    let namespace = &plugin.key.namespace;
    let fingerprints = &context.fingerprints;
    Ok(Some(Access {
        tenant: tenant(fingerprints, namespace, source, &files),
        files,
    }))
}

/// The registry of npm that a source names, if it is not the platform's.
#[must_use]
pub fn own_registry<'a>(source: &'a PluginSource, platform: &str) -> Option<&'a str> {
    let PluginSource::Npm(source) = source else {
        return None;
    };
    let plain = |url: &'a str| url.trim_end_matches('/');
    let own = plain(source.registry.as_deref()?);
    (own != platform.trim_end_matches('/')).then_some(own)
}

/// Names the tenant by its namespace, and the credential by what it is and what it is for.
fn tenant(
    fingerprints: &Fingerprints,
    namespace: &str,
    source: &PluginSource,
    files: &Result<BTreeMap<String, String>, Finding>,
) -> Tenant {
    let place = match source {
        PluginSource::Npm(source) => source.registry.as_deref().unwrap_or_default(),
        PluginSource::Http(source) => &source.url,
        PluginSource::Oci(source) => &source.repository,
        PluginSource::ConfigMap(_) => "",
    };
    let credential = files.as_ref().map_or_else(
        |_| String::new(),
        |files| {
            let pairs = files.iter().flat_map(|(name, text)| [name, text]);
            let texts = ["credential of a source", namespace, place].into_iter();
            let texts: Vec<_> = texts.chain(pairs.map(String::as_str)).collect();
            fingerprints.of(&texts)
        },
    );
    Tenant {
        owner: owner(fingerprints, namespace),
        credential,
    }
}

/// Names a namespace as the owner of what the store has for it alone.
#[must_use]
pub fn owner(fingerprints: &Fingerprints, namespace: &str) -> String {
    fingerprints.of(&["owner of a source", namespace])
}

/// The authority that the platform trusts for its own registry, which may be the tenant's too.
async fn platform_authority(context: &Context) -> Result<Option<String>, ReconcileError> {
    let Some(name) = &context.args.npm_secret else {
        return Ok(None);
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.args.namespace);
    let found = api.get_opt(name).await;
    let found = found.map_err(ReconcileError::request("reading the platform's npm Secret"))?;
    let data = found.and_then(|found| found.data);
    let authority = data.and_then(|mut data| data.remove(AUTHORITY));
    Ok(authority.and_then(|bytes| String::from_utf8(bytes.0).ok()))
}

/// Files that the steps read, from the content of the Secret.
fn files(
    source: &PluginSource,
    platform: &str,
    field: &str,
    secret: &Secret,
) -> Result<BTreeMap<String, String>, Finding> {
    let keys = Keys { field, secret };
    let mut files = BTreeMap::new();
    match source {
        PluginSource::Npm(source) => {
            let registry = source.registry.as_deref().unwrap_or(platform);
            let text = match keys.text(NPMRC)? {
                Some(_) if keys.has(TOKEN) || keys.has(USERNAME) => {
                    return Err(
                        keys.refuse("holds `.npmrc` and another credential beside it; keep one")
                    );
                }
                Some(text) => text,
                None => keys.npmrc(registry, "`.npmrc`, `token`, or `username` and `password`")?,
            };
            files.insert("npmrc".into(), text);
        }
        PluginSource::Http(source) => {
            // A login is for the whole server: where on it the tarball is says nothing of whose it is.
            let end = source.url.match_indices('/').nth(2);
            let server = end.map_or(source.url.as_str(), |(at, _)| &source.url[..at]);
            let text = keys.npmrc(server, "`token`, or `username` and `password`")?;
            files.insert("npmrc".into(), text);
        }
        PluginSource::Oci(source) => {
            let Some(config) = keys.text(DOCKER_CONFIG)? else {
                return Err(keys.refuse(
                    "has no key .dockerconfigjson; it must be of type kubernetes.io/dockerconfigjson",
                ));
            };
            let parsed = docker_config::parse(config.as_bytes());
            let found = parsed
                .and_then(|config| docker_config::credentials(&config, &source.repository))
                .map_err(|why| {
                    keys.refuse(&format!("is of no use for {}: {why}", source.repository))
                })?;
            files.insert(USERNAME.into(), found.username);
            files.insert(PASSWORD.into(), found.password);
        }
        PluginSource::ConfigMap(_) => {}
    }
    if let Some(authority) = keys.text(AUTHORITY)? {
        files.insert(AUTHORITY.into(), authority);
    }
    Ok(files)
}

/// The keys of a Secret that a field names.
struct Keys<'a> {
    field: &'a str,
    secret: &'a Secret,
}

impl Keys<'_> {
    fn has(&self, key: &str) -> bool {
        let data = self.secret.data.as_ref();
        data.is_some_and(|data| data.contains_key(key))
    }

    fn text(&self, key: &str) -> Result<Option<String>, Finding> {
        let data = self.secret.data.as_ref();
        let Some(ByteString(bytes)) = data.and_then(|data| data.get(key)) else {
            return Ok(None);
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.refuse(&format!("holds no text under key {key}"))),
        }
    }

    /// A value that editors like to end with a new line.
    fn line(&self, key: &str) -> Result<Option<String>, Finding> {
        let text = self.text(key)?;
        Ok(text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// The `.npmrc` that sends the login below a URL.
    fn npmrc(&self, url: &str, wanted: &str) -> Result<String, Finding> {
        let login = match (
            self.line(TOKEN)?,
            self.line(USERNAME)?,
            self.line(PASSWORD)?,
        ) {
            (Some(token), None, None) => Login::Token(token),
            (None, Some(username), Some(password)) => Login::Password { username, password },
            (None, Some(_), None) => return Err(self.refuse("has no key password beside username")),
            (None, None, Some(_)) => return Err(self.refuse("has no key username beside password")),
            (None, None, None) => {
                return Err(self.refuse(&format!("has no key with a credential; wanted {wanted}")));
            }
            (Some(_), ..) => {
                return Err(self.refuse("holds `token` and another credential beside it; keep one"));
            }
        };
        let text = login.npmrc(url);
        text.ok_or_else(|| self.refuse("holds an empty credential, or one of several lines"))
    }

    fn refuse(&self, what: &str) -> Finding {
        let name = self.secret.name_any();
        let message = format!("Secret {name} of {} {what}.", self.field);
        Finding::no(Reason::SecretUnavailable, message)
    }
}

/// Puts what a Job is lent where its pod waits for it. The Secret is the Job's and goes with it.
///
/// # Errors
/// When the API server fails.
pub async fn lend(context: &Context, job: &Job, access: &Access) -> Result<(), ReconcileError> {
    let Ok(files) = &access.files else {
        return Ok(());
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.args.namespace);
    match apply_unsealed(&api, &build_secret(job, files)).await {
        // That of a Job before goes in a moment, and then this one takes its place.
        Ok(_) | Err(ApplyError::Foreign { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn build_secret(job: &Job, files: &BTreeMap<String, String>) -> Secret {
    let data = files
        .iter()
        .map(|(name, text)| (name.clone(), ByteString(text.clone().into_bytes())));
    Secret {
        metadata: ObjectMeta {
            name: job.metadata.name.clone(),
            namespace: job.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([(
                labels::MANAGED_BY.into(),
                labels::OPERATOR.into(),
            )])),
            owner_references: job.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(OPAQUE.into()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use paperclip_crds::v1alpha1::{HttpSource, NpmSource, OciSource};
    use serde_json::{Value, json};

    const PLATFORM: &str = "https://registry.npmjs.org";

    fn npm(registry: Option<&str>) -> PluginSource {
        PluginSource::Npm(NpmSource {
            registry: registry.map(str::to_owned),
            credentials_secret: Some("pull".into()),
            ..fixtures::npm()
        })
    }

    fn oci() -> PluginSource {
        PluginSource::Oci(OciSource {
            repository: "registry.example:5000/team/greeter".into(),
            tag: Some("1".into()),
            digest: None,
            resolve_interval_seconds: 600,
            pull_secret: Some("pull".into()),
        })
    }

    fn secret(texts: &[(&str, &str)]) -> Secret {
        let data = texts
            .iter()
            .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret {
            metadata: ObjectMeta {
                name: Some("pull".into()),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    fn read(
        source: &PluginSource,
        texts: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, String> {
        let field = source.credential().map_or("", |(field, _)| field);
        files(source, PLATFORM, field, &secret(texts)).map_err(|finding| finding.message)
    }

    #[test]
    fn each_form_of_a_credential_becomes_what_the_step_reads() {
        let own = npm(Some("https://npm.acme.example/private"));
        let token = read(&own, &[("token", "t0p\n"), ("ca.crt", "pem")]).unwrap();
        assert_eq!(
            token["npmrc"],
            "//npm.acme.example/private/:_authToken=t0p\n"
        );
        assert_eq!(token["ca.crt"], "pem");
        let text = "//npm.acme.example/:_authToken=x";
        assert_eq!(read(&own, &[(".npmrc", text)]).unwrap()["npmrc"], text);
        let password = read(&npm(None), &[("username", "me"), ("password", "secret")]);
        let password = password.unwrap();
        assert!(password["npmrc"].starts_with("//registry.npmjs.org/:username=me\n"));
        assert!(!password["npmrc"].contains("secret"));
    }

    #[test]
    fn a_login_for_a_tarball_is_for_its_server() {
        let source = PluginSource::Http(HttpSource {
            url: "https://files.example:8443/a/b.tgz".into(),
            integrity: String::new(),
            credentials_secret: Some("pull".into()),
        });
        let files = read(&source, &[("token", "t0p")]).unwrap();
        assert_eq!(files["npmrc"], "//files.example:8443/:_authToken=t0p\n");
    }

    #[test]
    fn what_is_missing_or_too_much_is_named_without_a_value() {
        for (texts, says) in [
            (&[][..], "has no key with a credential"),
            (&[("username", "hidden")], "no key password"),
            (&[("password", "hidden")], "no key username"),
            (&[("token", "")], "an empty credential"),
            (&[("token", "a\nhidden")], "several lines"),
            (
                &[("token", "hidden"), (".npmrc", "x")],
                "another credential",
            ),
            (
                &[("token", "hidden"), ("username", "x")],
                "another credential",
            ),
        ] {
            let said = read(&npm(None), texts).unwrap_err();
            assert!(said.contains(says), "{said}");
            assert!(said.starts_with("Secret pull of spec.source.npm.credentialsSecret "));
            assert!(!said.contains("hidden"), "{said}");
        }
    }

    #[test]
    fn the_entry_of_the_registry_is_found_in_a_docker_config() {
        let auth = BASE64_STANDARD.encode("me:sec:ret");
        let config = |entries: Value| json!({ "auths": entries }).to_string();
        let of = |entries: Value| read(&oci(), &[(".dockerconfigjson", &config(entries))]);
        for key in [
            "registry.example:5000",
            "https://registry.example:5000/v1/",
            "registry.example:5000/team",
        ] {
            let found = of(json!({key: {"auth": auth}, "registry.example": {"auth": "eDp5"}}));
            let found = found.unwrap();
            assert_eq!(
                (&*found["username"], &*found["password"]),
                ("me", "sec:ret")
            );
        }
        let plain = of(json!({"registry.example:5000": {"username": "a", "password": "b"}}));
        assert_eq!(plain.unwrap()["password"], "b");
        let other = of(json!({"registry.example:50001": {"auth": auth}})).unwrap_err();
        assert!(other.contains("no entry for this registry"), "{other}");
        let broken = of(json!({"registry.example:5000": {"auth": "hidden"}})).unwrap_err();
        assert!(
            broken.contains("base64") && !broken.contains("hidden"),
            "{broken}"
        );
        let missing = read(&oci(), &[("token", "x")]).unwrap_err();
        assert!(missing.contains(".dockerconfigjson"), "{missing}");
    }

    #[test]
    fn a_tenant_is_its_namespace_and_a_credential_what_it_holds() {
        let fingerprints = Fingerprints::new(b"key");
        let of = |namespace: &str, token: &str| {
            let files = read(&npm(None), &[("token", token)]);
            let files = files.map_err(|_| Finding::no(Reason::SecretUnavailable, String::new()));
            tenant(&fingerprints, namespace, &npm(None), &files)
        };
        let first = of("shop", "a");
        assert_eq!(first, of("shop", "a"));
        assert_eq!(first.owner, of("shop", "b").owner);
        assert_ne!(first.credential, of("shop", "b").credential);
        assert_ne!(first.owner, of("bank", "a").owner);
        assert_ne!(first.credential, of("bank", "a").credential);
    }

    #[test]
    fn the_platforms_registry_by_name_is_no_registry_of_ones_own() {
        assert_eq!(own_registry(&npm(None), PLATFORM), None);
        let named = npm(Some("https://registry.npmjs.org/"));
        assert_eq!(own_registry(&named, PLATFORM), None);
        let own = npm(Some("https://npm.acme.example/"));
        assert_eq!(
            own_registry(&own, PLATFORM),
            Some("https://npm.acme.example")
        );
    }

    #[test]
    fn what_is_lent_goes_with_the_job() {
        let job = Job {
            metadata: ObjectMeta {
                name: Some("pack-x-0".into()),
                namespace: Some("paperclip-system".into()),
                uid: Some("uid-of-job".into()),
                ..ObjectMeta::default()
            },
            ..Job::default()
        };
        let files = BTreeMap::from([("npmrc".to_owned(), "x".to_owned())]);
        let secret = build_secret(&job, &files);
        let owners = secret.owner_references();
        assert_eq!(owners.len(), 1);
        assert_eq!((&*owners[0].kind, &*owners[0].uid), ("Job", "uid-of-job"));
        assert_eq!(secret.metadata.name, job.metadata.name);
    }
}
