//! A Sigstore of one's own: an authority for certificates and a log, with real keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_artifact::trust::evidence::{LoggedCertificate, SimpleSignature};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair as CertificateKey, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_verify::crypto::KeyPair;
use time::{Duration, OffsetDateTime};

/// Fulcio's extensions: issuer and source repository.
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
const SOURCE_REPOSITORY: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 12];

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Who asks for a certificate.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    pub identity: &'a str,
    pub issuer: &'a str,
    pub repository: &'a str,
}

pub struct Authority {
    key: CertificateKey,
    certificate: rcgen::Certificate,
    parameters: CertificateParams,
    log: KeyPair,
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn utf8(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 128, "a short form of a DER length");
    [&[0x0c, length], text.as_bytes()].concat()
}

pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// PEM of a public key.
pub fn pem(key: &KeyPair) -> String {
    let text = base64(key.public_key_der().unwrap().as_bytes());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

pub fn sign(key: &KeyPair, bytes: &[u8]) -> String {
    base64(key.sign(bytes).unwrap().as_bytes())
}

/// A bundle that a key signed, as `cosign sign --key` makes it without a log.
pub fn key_bundle(key: &KeyPair, statement: &Value) -> Value {
    let payload = statement.to_string();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "key" } },
        "dsseEnvelope": {
            "payload": base64(payload.as_bytes()),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": sign(key, &pae(payload.as_bytes())) }],
        },
    })
}

impl Authority {
    pub fn new() -> Self {
        let key = CertificateKey::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.not_before = OffsetDateTime::now_utc() - Duration::days(30);
        let certificate = parameters.self_signed(&key).unwrap();
        let log = KeyPair::generate_ecdsa_p256().unwrap();
        Self {
            key,
            certificate,
            parameters,
            log,
        }
    }

    /// Text of a `trusted_root.json` that believes this authority alone.
    pub fn trusted_root(&self) -> String {
        let log = self.log.public_key_der().unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [{
                "baseUrl": "https://rekor.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": base64(log.as_bytes()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": { "start": "2020-01-01T00:00:00Z" },
                },
                "logId": { "keyId": base64(&hash(log.as_bytes())) },
            }],
            "certificateAuthorities": [{
                "subject": { "organization": "example", "commonName": "example" },
                "uri": "https://fulcio.example",
                "certChain": { "certificates": [{ "rawBytes": base64(self.certificate.der()) }] },
                "validFor": { "start": "2020-01-01T00:00:00Z" },
            }],
            "ctlogs": [],
            "timestampAuthorities": [],
        })
        .to_string()
    }

    /// A statement signed now, with a certificate of ten minutes.
    pub fn bundle(&self, person: Person<'_>, statement: &Value) -> Value {
        self.bundle_logged(person, statement, Duration::ZERO)
    }

    /// A statement that the log took in `late` after the certificate was issued.
    pub fn bundle_logged(&self, person: Person<'_>, statement: &Value, late: Duration) -> Value {
        let issued = OffsetDateTime::now_utc() - Duration::days(1);
        let logged = (issued + late).unix_timestamp() + 60;
        let key = CertificateKey::generate().unwrap();
        let certificate = self.certificate(person, &key, issued);
        let signer = KeyPair::from_pkcs8_der(&key.serialize_der()).unwrap();
        assert_eq!(signer.public_key_bytes(), key.der_bytes());
        let payload = statement.to_string();
        let signature = sign(&signer, &pae(payload.as_bytes()));
        let entry = self.entry(payload.as_bytes(), &signature, &certificate, logged);
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": { "rawBytes": base64(certificate.der()) },
                "tlogEntries": [entry],
            },
            "dsseEnvelope": {
                "payload": base64(payload.as_bytes()),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": signature }],
            },
        })
    }

    fn certificate(
        &self,
        person: Person<'_>,
        key: &CertificateKey,
        issued: OffsetDateTime,
    ) -> rcgen::Certificate {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = issued;
        parameters.not_after = issued + Duration::minutes(10);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        parameters.subject_alt_names = vec![SanType::URI(person.identity.try_into().unwrap())];
        for (identifier, value) in [
            (ISSUER, person.issuer),
            (SOURCE_REPOSITORY, person.repository),
        ] {
            let extension = CustomExtension::from_oid_content(&identifier, utf8(value));
            parameters.custom_extensions.push(extension);
        }
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        parameters.signed_by(key, &issuer).unwrap()
    }

    /// A text signed as cosign 2 does without a key: signature, certificate and log entry.
    pub fn detached(&self, person: Person<'_>, payload: &[u8]) -> SimpleSignature {
        self.detached_logged(person, payload, Duration::ZERO)
    }

    /// The same, taken in by the log `late` after the certificate was issued.
    pub fn detached_logged(
        &self,
        person: Person<'_>,
        payload: &[u8],
        late: Duration,
    ) -> SimpleSignature {
        let issued = OffsetDateTime::now_utc() - Duration::days(1);
        let key = CertificateKey::generate().unwrap();
        let certificate = self.certificate(person, &key, issued);
        let signer = KeyPair::from_pkcs8_der(&key.serialize_der()).unwrap();
        let signature = sign(&signer, payload);
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex::encode(hash(payload)) } },
                "signature": {
                    "content": signature,
                    "publicKey": { "content": base64(certificate.pem().as_bytes()) },
                },
            },
        });
        let logged = (issued + late).unix_timestamp() + 60;
        let (entry, promised) = self.promise(&body.to_string(), logged);
        SimpleSignature {
            payload: base64(payload),
            signature,
            vouched: Some(LoggedCertificate {
                certificate: certificate.pem(),
                log_entry: json!({ "SignedEntryTimestamp": promised, "Payload": entry })
                    .to_string(),
            }),
        }
    }

    /// What the log promises of an entry, and its signature over that.
    fn promise(&self, body: &str, logged: i64) -> (Value, String) {
        let key = self.log.public_key_der().unwrap();
        let promise = json!({
            "body": base64(body.as_bytes()),
            "integratedTime": logged,
            "logID": hex::encode(hash(key.as_bytes())),
            "logIndex": 0,
        });
        let promised = sign(&self.log, promise.to_string().as_bytes());
        (promise, promised)
    }

    /// The log's entry, the only one in its tree.
    fn entry(
        &self,
        payload: &[u8],
        signature: &str,
        certificate: &rcgen::Certificate,
        logged: i64,
    ) -> Value {
        let pem = certificate.pem();
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": { "algorithm": "sha256", "value": "0".repeat(64) },
                "payloadHash": { "algorithm": "sha256", "value": hex::encode(hash(payload)) },
                "signatures": [{ "signature": signature, "verifier": base64(pem.as_bytes()) }],
            },
        });
        let body = body.to_string();
        let (promise, promised) = self.promise(&body, logged);
        let identifier = hex::decode(promise["logID"].as_str().unwrap()).unwrap();
        let root = hash(&[&[0], body.as_bytes()].concat());
        let head = format!("rekor.example\n1\n{}\n", base64(&root));
        let signed = self.log.sign(head.as_bytes()).unwrap();
        let note = [&identifier[..4], signed.as_bytes()].concat();
        let checkpoint = format!("{head}\n\u{2014} rekor.example {}\n", base64(&note));
        json!({
            "logIndex": "0",
            "logId": { "keyId": base64(&identifier) },
            "kindVersion": { "kind": "dsse", "version": "0.0.1" },
            "integratedTime": logged.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": promised },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": base64(&root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": { "envelope": checkpoint },
            },
            "canonicalizedBody": base64(body.as_bytes()),
        })
    }
}
