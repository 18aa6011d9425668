//! Certificates and kubeconfigs of a cluster.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// The cluster's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Who a certificate speaks for.
pub struct Subject<'a> {
    /// User name in Kubernetes.
    pub user: &'a str,
    /// Group in Kubernetes.
    pub group: Option<&'a str>,
    /// Names and addresses it serves under; none for a client.
    pub serves: &'a [String],
}

impl<'a> Subject<'a> {
    /// A client.
    pub fn client(user: &'a str, group: Option<&'a str>) -> Self {
        Self {
            user,
            group,
            serves: &[],
        }
    }
}

/// A certificate with its key, in PEM.
pub struct Leaf {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Leaf {
    /// Writes `<name>.crt` and `<name>.key`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<()> {
        write(&dir.join(format!("{name}.crt")), &self.certificate)?;
        write(&dir.join(format!("{name}.key")), &self.key)
    }
}

impl Authority {
    /// Makes a new authority and writes `ca.crt` and `ca.key`.
    pub fn create(dir: &Path) -> Result<Self> {
        let mut params = params(Subject::client("paperclip-test-cluster", None));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        write(&dir.join("ca.crt"), &pem)?;
        write(&dir.join("ca.key"), &key.serialize_pem())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Issues a certificate.
    pub fn issue(&self, subject: Subject<'_>) -> Result<Leaf> {
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let names = subject
            .serves
            .iter()
            .map(|name| alternative(name))
            .collect::<Result<Vec<_>>>()?;
        if !names.is_empty() {
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let mut params = params(subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Leaf {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// Writes a kubeconfig for a client, complete in itself.
    pub fn write_kubeconfig(&self, path: &Path, server: &str, subject: Subject<'_>) -> Result<()> {
        let user = subject.user.to_owned();
        let leaf = self.issue(subject)?;
        let credential = json!({
            "client-certificate-data": base64(&leaf.certificate),
            "client-key-data": base64(&leaf.key),
        });
        write(
            path,
            &kubeconfig(server, &self.pem, &user, credential).to_string(),
        )
    }
}

/// A kubeconfig in JSON, which is YAML.
fn kubeconfig(
    server: &str,
    authority: &str,
    user: &str,
    credential: serde_json::Value,
) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": base64(authority)}}],
        "users": [{"name": user, "user": credential}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    })
}

/// Writes a kubeconfig for the bearer of a token.
pub fn write_token_kubeconfig(
    path: &Path,
    server: &str,
    authority: &str,
    token: &str,
) -> Result<()> {
    let config = kubeconfig(server, authority, "bearer", json!({"token": token}));
    write(path, &config.to_string())
}

/// Writes the key pair that signs the tokens of ServiceAccounts: `<name>.key`, `<name>.pub`.
pub fn write_key_pair(dir: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    write(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    write(&dir.join(format!("{name}.pub")), &key.public_key_pem())
}

fn params(subject: Subject<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject.user);
    if let Some(group) = subject.group {
        name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name = name;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(365);
    params
}

fn alternative(name: &str) -> Result<SanType> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(
            name.try_into()
                .with_context(|| format!("{name} as a DNS name"))?,
        ),
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
