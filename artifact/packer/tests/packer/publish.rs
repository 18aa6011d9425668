//! The last step of packing: what no policy trusts is not pushed, who signed a source image
//! counts, and what is pushed carries the platform's signature.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::Opened;
use paperclip_artifact::lock::Lock;
use paperclip_artifact::trust::cosign::{Signer, signature_tag, simple_payload};
use paperclip_artifact::trust::evidence::{NpmSignature, SimpleSignature};
use paperclip_artifact::trust::platform::{self, CheckError, Origin};
use paperclip_artifact::trust::verification::Verification;
use paperclip_artifact::trust::{
    Evidence, Keyless, Pattern, Policy, PublicKey, Requirement, SigningKey, Subject, TrustRoot, npm,
};
use paperclip_artifact::verify;
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::StoreClient;
use paperclip_oci::image::{
    CONFIG_MEDIA_TYPE, Descriptor, EMPTY_MEDIA_TYPE, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE,
};
use paperclip_oci::source::Source;
use paperclip_oci::{Digest, referrers};
use paperclip_packer::sandbox::evaluate::Evaluator;
use paperclip_packer::steps::publish::{Publication, PublishError, bring_image};
use paperclip_packer::steps::verify::judge;
use paperclip_packer::steps::work::Work;
use paperclip_packing_api::policies::{self, Policies};
use paperclip_packing_api::report::{self, Failure, FailureReason, Published, StepReport};
use paperclip_packing_api::request::{PackRequest, RemoteImage, StoreEndpoints};
use paperclip_packing_api::single_file::SingleFile;
use paperclip_packing_api::stored;
use paperclip_packing_api::verification::VerifyRequest;
use serde_json::{Value, json};
use sigstore_verify::crypto::KeyPair;

use crate::support;
use crate::support::oci::OciRegistry;
use crate::support::real::RealRegistry;
use crate::trust::authority::{Authority, Person, key_bundle, pem, sign};

const PLUGIN: &str = "acme.greeter";
const REPOSITORY: &str = "plugins/acme.greeter";
const THERE: &str = "team/greeter";
const TAG: &str = "request-0";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const PERSON: Person<'static> = Person {
    identity: "https://git.example/acme/release",
    issuer: "https://token.git.example",
    repository: "https://git.example/acme/p",
};

fn single_file() -> SingleFile {
    SingleFile {
        manifest: json!({
            "id": PLUGIN, "apiVersion": 1, "version": "1.0.0", "displayName": "Greeter",
            "description": "Greets.", "author": "Acme", "categories": ["automation"],
            "capabilities": ["events.subscribe"], "entrypoints": {"worker": "./worker.js"},
        }),
        worker: "process.stdin.resume();\n".into(),
    }
}

/// A work folder after `fetch` and `evaluate`.
async fn ready() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let work = Work::at(folder.path());
    work.lay_out(&single_file(), &Platforms::default()).unwrap();
    let evaluator = Evaluator {
        packer: support::packer().to_owned(),
        toolchain: support::toolchain().await,
    };
    work.evaluate(&evaluator).unwrap();
    folder
}

fn subject(work: &Path) -> Subject {
    let lock = fs::read(work.join("package-lock.json")).unwrap();
    let lock = Lock::parse(&lock, PLUGIN, "1.0.0").unwrap();
    Subject {
        package: PLUGIN.into(),
        version: "1.0.0".into(),
        integrity: lock.integrity(PLUGIN).unwrap().into(),
        source_digest: None,
    }
}

/// As if a registry had signed the package with this key.
fn record_signature(work: &Path, key: &KeyPair) {
    let subject = subject(work);
    let Subject {
        package,
        version,
        integrity,
        ..
    } = &subject;
    let text = format!("{package}@{version}:{integrity}");
    let evidence = Evidence {
        npm_signatures: vec![NpmSignature {
            keyid: "SHA256:a".into(),
            sig: sign(key, text.as_bytes()),
        }],
        subject,
        ..Evidence::default()
    };
    fs::write(work.join("evidence.json"), evidence.to_bytes().unwrap()).unwrap();
}

fn key() -> KeyPair {
    support::install_crypto();
    KeyPair::generate_ecdsa_p256().unwrap()
}

fn asks(require: Requirement) -> Policies {
    Policies::new(vec![Policy {
        name: "signed".into(),
        require: vec![require],
    }])
}

fn npm_signature(key: &KeyPair) -> Policies {
    asks(Requirement::NpmSignature {
        keys: vec![npm::Key {
            keyid: "SHA256:a".into(),
            key: pem(key),
            expires: None,
        }],
    })
}

/// What the step reports, as the kubelet keeps it, and its exit code.
fn push_step(
    registry: &RealRegistry,
    work: &Path,
    demand: &Policies,
) -> (Option<i32>, StepReport<Published>) {
    let address = registry.options().address;
    let request = PackRequest {
        registry: "https://registry.example".into(),
        package: PLUGIN.into(),
        version: "1.0.0".into(),
        single_file: Some(single_file()),
        store: StoreEndpoints {
            read: address.clone(),
            push: address,
            plain_http: false,
        },
        repository: REPOSITORY.into(),
        ..PackRequest::default()
    };
    let log = work.join("termination-log");
    let output = Command::new(support::packer())
        .arg("push")
        .env("PAPERCLIP_PACK_REQUEST", json!(request).to_string())
        .env(policies::ENVIRONMENT, json!(demand).to_string())
        .arg("--work-dir")
        .arg(work)
        .arg("--store-dir")
        .arg(registry.folder())
        .arg("--signing-dir")
        .arg(work.join("signing"))
        .arg("--termination-log")
        .arg(&log)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = fs::read_to_string(log).unwrap_or_else(|e| panic!("{e}: {said}"));
    (output.status.code(), report::parse(&told).expect(&told))
}

fn verify_request(digest: &Digest, demand: &Policies, copied: bool) -> VerifyRequest {
    VerifyRequest {
        store: StoreEndpoints::default(),
        repository: REPOSITORY.into(),
        digest: digest.clone(),
        package: PLUGIN.into(),
        copied,
        policies: demand.policies().to_vec(),
    }
}

#[tokio::test]
async fn what_no_policy_trusts_leaves_no_byte_in_the_store() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let work = ready().await;
    let demand = npm_signature(&key());
    let mut refusals = Vec::new();
    for is_signed_by_another in [false, true] {
        if is_signed_by_another {
            record_signature(work.path(), &key());
        }
        let (code, told) = push_step(&registry, work.path(), &demand);
        let StepReport::Error(failure) = told else {
            panic!("{told:?}");
        };
        assert_eq!(code, Some(i32::from(report::PACKAGE_AT_FAULT)));
        assert!(failure.message.contains("policy signed"), "{failure:?}");
        assert_eq!(registry.files(), [""; 0].map(std::path::PathBuf::from));
        refusals.push(failure);
    }
    let reasons: Vec<_> = refusals.iter().map(|failure| failure.reason).collect();
    let wanted = [
        FailureReason::SignatureMissing,
        FailureReason::SignatureInvalid,
    ];
    assert_eq!(reasons, wanted);

    // Where nothing is asked it is pushed, and judged later in the same words.
    let (_, told) = push_step(&registry, work.path(), &Policies::default());
    let StepReport::Ok(published) = told else {
        panic!("{told:?}");
    };
    assert_eq!(published.proofs, [""; 0]);
    assert_eq!(published.signed_by, None, "no key was mounted");
    let digest = published.pushed.digest;
    let later = judge(&store, &verify_request(&digest, &demand, false)).await;
    assert_eq!(Failure::from(&later.unwrap_err()), refusals[1]);
}

#[tokio::test]
async fn what_a_policy_trusts_is_pushed_with_a_record_and_needs_no_other_judge() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let (work, npm_key) = (ready().await, key());
    record_signature(work.path(), &npm_key);
    let demand = npm_signature(&npm_key);
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let mounted = work.path().join("signing");
    fs::create_dir(&mounted).unwrap();
    fs::write(mounted.join("key.pem"), &pem).unwrap();
    let (code, told) = push_step(&registry, work.path(), &demand);
    let StepReport::Ok(published) = told else {
        panic!("{told:?}");
    };
    assert_eq!(code, Some(0));
    assert_eq!(published.proofs, ["signed: npmSignature by SHA256:a"]);
    let digest = published.pushed.digest;
    let keys = [SigningKey::parse(pem.as_bytes()).unwrap().public().clone()];
    let checked = platform::check(&store, REPOSITORY, &digest, &keys).await;
    assert_eq!(checked.ok(), published.signed_by);
    assert_eq!(published.signed_by, Some(keys[0].id()));
    let source = Source::Store {
        client: store.clone(),
        repository: REPOSITORY.into(),
    };
    let opened = Opened::open(&source, &digest).await.unwrap();
    let record = opened.attached(Kind::Verification).await.unwrap();
    let record: Verification = serde_json::from_slice(&record).unwrap();
    assert_eq!(record.artifact, digest);
    let later = judge(&store, &verify_request(&digest, &demand, false)).await;
    assert_eq!(later.unwrap().proofs, published.proofs);
}

/// A registry that holds an artifact, and what people attach to it.
struct Team {
    registry: OciRegistry,
    digest: Digest,
}

impl Team {
    async fn new() -> Self {
        let registry = OciRegistry::start(None).await;
        let work = ready().await;
        let assembled = Work::at(work.path()).assemble().unwrap();
        let store = registry.client(None);
        let pushed = assembled.push(&store, THERE, "1.0.0").await.unwrap();
        Self {
            registry,
            digest: pushed.digest,
        }
    }

    fn store(&self) -> StoreClient {
        self.registry.client(None)
    }

    async fn put(&self, content: &[u8]) {
        let content = Bytes::copy_from_slice(content);
        let pushed = self
            .store()
            .push_blob(THERE, &Digest::of(&content), content)
            .await;
        pushed.unwrap();
    }

    /// Signatures as cosign 2 has them.
    async fn tag(&self, signatures: &[(Vec<u8>, String)]) {
        let annotated = signatures.iter().map(|(payload, signature)| {
            let annotations = json!({"dev.cosignproject.cosign/signature": signature});
            (payload.clone(), annotations)
        });
        self.tag_annotated(&annotated.collect::<Vec<_>>()).await;
    }

    /// The same without a key: certificate and log entry are annotations as well.
    async fn tag_vouched(&self, signature: &SimpleSignature) {
        let payload = STANDARD.decode(&signature.payload).unwrap();
        let vouched = signature.vouched.as_ref().unwrap();
        let annotations = json!({
            "dev.cosignproject.cosign/signature": signature.signature,
            "dev.sigstore.cosign/certificate": vouched.certificate,
            "dev.sigstore.cosign/bundle": vouched.log_entry,
        });
        self.tag_annotated(&[(payload, annotations)]).await;
    }

    async fn tag_annotated(&self, texts: &[(Vec<u8>, Value)]) {
        let mut layers = Vec::new();
        for (payload, annotations) in texts {
            self.put(payload).await;
            let mut layer = json!(Descriptor::of(PAYLOAD, payload));
            layer["annotations"] = annotations.clone();
            layers.push(layer);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE,
            "config": Descriptor::of(CONFIG_MEDIA_TYPE, b"{}"), "layers": layers});
        let content = manifest.to_string().into();
        let tag = signature_tag(&self.digest);
        self.store()
            .push_manifest(THERE, &tag, content)
            .await
            .unwrap();
    }

    /// A bundle as cosign 3 attaches it, listed under a tag, with or without what it is.
    async fn attach(&self, bundle: &Value, says_what: bool) {
        let content = bundle.to_string();
        self.put(content.as_bytes()).await;
        self.put(b"{}").await;
        let size = self
            .store()
            .manifest_bytes(THERE, &self.digest)
            .await
            .unwrap()
            .len();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": BUNDLE, "config": Descriptor::of(EMPTY_MEDIA_TYPE, b"{}"),
            "layers": [Descriptor::of(BUNDLE, content.as_bytes())],
            "subject": {"mediaType": MANIFEST_MEDIA_TYPE, "digest": self.digest, "size": size}});
        let manifest = manifest.to_string();
        let digest = Digest::of(manifest.as_bytes());
        let pushed = self.store();
        let pushed = pushed.push_manifest(THERE, digest.as_str(), manifest.clone().into());
        pushed.await.unwrap();
        let tag = referrers::fallback_tag(&self.digest);
        let index = self.store().tagged_bytes(THERE, &tag).await.unwrap();
        let mut index: Value = index.map_or_else(
            || json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": []}),
            |index| serde_json::from_slice(&index).unwrap(),
        );
        let mut listed = json!(Descriptor::of(MANIFEST_MEDIA_TYPE, manifest.as_bytes()));
        if says_what {
            listed["artifactType"] = BUNDLE.into();
        }
        index["manifests"].as_array_mut().unwrap().push(listed);
        let pushed = self.store();
        let pushed = pushed.push_manifest(THERE, &tag, index.to_string().into());
        pushed.await.unwrap();
    }

    fn payload(&self) -> Vec<u8> {
        simple_payload("registry.example/team/greeter", &self.digest)
    }

    fn statement(&self) -> Value {
        statement(&self.digest)
    }

    /// Brings the image and publishes it on these terms.
    async fn publish(
        &self,
        here: &StoreClient,
        demand: &Policies,
        key: Option<&SigningKey>,
    ) -> Result<Published, PublishError> {
        let work = tempfile::tempdir().unwrap();
        let source = Source::Store {
            client: self.store(),
            repository: THERE.into(),
        };
        bring_image(&source, &self.digest, &Platforms::default(), work.path()).await?;
        let image = RemoteImage {
            repository: format!("{}/{THERE}", self.registry.address()),
            digest: self.digest.clone(),
        };
        let publication = Publication {
            store: here,
            repository: REPOSITORY,
            tag: TAG,
            demand,
            key,
        };
        publication.image(work.path(), &image).await
    }

    /// Why it is not published, and that nothing of it is in the store.
    async fn refusal(&self, demand: &Policies) -> Failure {
        let here = OciRegistry::start(None).await;
        let published = self.publish(&here.client(None), demand, None).await;
        assert_eq!(here.content(REPOSITORY), BTreeMap::new());
        Failure::from(&published.expect_err("it must be refused"))
    }

    async fn is_published(&self, demand: &Policies) -> Vec<String> {
        let here = OciRegistry::start(None).await;
        let published = self.publish(&here.client(None), demand, None).await;
        let published = published.unwrap();
        // VerificationReport again, without the registry that it came from.
        let request = verify_request(&self.digest, demand, true);
        let judged = judge(&here.client(None), &request).await.unwrap();
        assert_eq!(judged.proofs, published.proofs);
        published.proofs
    }
}

fn statement(image: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": image.hex() } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
}

fn by_key(key: &KeyPair) -> Policies {
    asks(Requirement::Cosign(Signer::Key(pem(key))))
}

fn by_person(authority: &Authority) -> Policies {
    asks(Requirement::Cosign(Signer::Keyless(Keyless {
        issuer: PERSON.issuer.into(),
        identity: Pattern::Exact(PERSON.identity.into()),
        source_repository: None,
        trust_root: TrustRoot::Inline(authority.trusted_root()),
    })))
}

#[tokio::test]
async fn signature_of_the_source_image_counts_in_both_layouts() {
    let (key, other) = (key(), key());
    let tagged = Team::new().await;
    let payload = tagged.payload();
    let signatures = [&other, &key].map(|key| (payload.clone(), sign(key, &payload)));
    tagged.tag(&signatures).await;
    assert_eq!(
        tagged.is_published(&by_key(&key)).await,
        ["signed: cosign by key"]
    );
    for says_what in [true, false] {
        let attached = Team::new().await;
        let bundle = key_bundle(&key, &attached.statement());
        attached.attach(&bundle, says_what).await;
        attached.is_published(&by_key(&key)).await;
    }
    let authority = Authority::new();
    let person = [format!("signed: cosign by {}", PERSON.identity)];
    let keyless = Team::new().await;
    let bundle = authority.bundle(PERSON, &keyless.statement());
    keyless.attach(&bundle, true).await;
    assert_eq!(keyless.is_published(&by_person(&authority)).await, person);
    let below_a_tag = Team::new().await;
    let signature = authority.detached(PERSON, &below_a_tag.payload());
    below_a_tag.tag_vouched(&signature).await;
    let proofs = below_a_tag.is_published(&by_person(&authority)).await;
    assert_eq!(proofs, person);
}

#[tokio::test]
async fn image_without_a_signature_that_holds_is_not_pushed() {
    let (key, other) = (key(), key());
    let team = Team::new().await;
    let refused = team.refusal(&by_key(&key)).await;
    assert_eq!(refused.reason, FailureReason::SignatureMissing);

    let payload = team.payload();
    let another = simple_payload("registry.example/team/greeter", &Digest::of(b"other"));
    let forged = [
        (payload.clone(), sign(&other, &payload)),
        (another.clone(), sign(&key, &another)),
        (payload.clone(), sign(&key, &another)),
    ];
    for one in forged {
        team.tag(&[one]).await;
        let refused = team.refusal(&by_key(&key)).await;
        assert_eq!(
            refused.reason,
            FailureReason::SignatureInvalid,
            "{refused:?}"
        );
    }
    let authority = Authority::new();
    let mallory = Person {
        identity: "https://git.example/mallory",
        ..PERSON
    };
    let bundle = authority.bundle(mallory, &team.statement());
    team.attach(&bundle, true).await;
    let refused = team.refusal(&by_person(&authority)).await;
    assert_eq!(refused.reason, FailureReason::IdentityMismatch);
    let team = Team::new().await;
    let bundle = authority.bundle(PERSON, &statement(&Digest::of(b"other")));
    team.attach(&bundle, true).await;
    let refused = team.refusal(&by_person(&authority)).await;
    assert_eq!(refused.reason, FailureReason::SignatureInvalid);
}

/// Nobody saw the tree come from the package, whatever the artifact brings along.
#[tokio::test]
async fn what_npm_is_said_to_have_signed_does_not_count_for_a_copy() {
    let npm_key = key();
    let registry = OciRegistry::start(None).await;
    let work = ready().await;
    record_signature(work.path(), &npm_key);
    let assembled = Work::at(work.path()).assemble().unwrap();
    let pushed = assembled.push(&registry.client(None), THERE, "1").await;
    let team = Team {
        digest: pushed.unwrap().digest,
        registry,
    };
    let refused = team.refusal(&npm_signature(&npm_key)).await;
    assert_eq!(refused.reason, FailureReason::SignatureMissing);
    assert!(refused.message.contains("packed elsewhere"), "{refused:?}");

    // Nor does the other platform's testimony come along.
    let here = OciRegistry::start(None).await;
    let store = here.client(None);
    team.publish(&store, &Policies::default(), None)
        .await
        .unwrap();
    let listed = referrers::list(&store, REPOSITORY, &team.digest).await;
    let evidence = Kind::Evidence.media_type();
    let count = listed
        .unwrap()
        .iter()
        .filter(|one| one.artifact_type == evidence)
        .count();
    assert_eq!(count, 1, "what was gathered here alone");
    let later = verify_request(&team.digest, &npm_signature(&npm_key), true);
    let later = Failure::from(&judge(&store, &later).await.unwrap_err());
    assert_eq!(later.reason, FailureReason::SignatureMissing);
    let by_package = verify_request(&team.digest, &npm_signature(&npm_key), false);
    let by_package = Failure::from(&judge(&store, &by_package).await.unwrap_err());
    assert_eq!(by_package.reason, FailureReason::SignatureMissing);
}

#[tokio::test]
async fn what_hostile_people_attach_is_passed_over_or_bounded() {
    let key = key();
    let team = Team::new().await;
    let payload = team.payload();
    let long = vec![b'x'; 100 * 1024];
    let good = (payload.clone(), sign(&key, &payload));
    let broken = [
        (long.clone(), sign(&key, &long)),
        (payload.clone(), "x".repeat(5000)),
        (b"{}".to_vec(), "no base64".into()),
    ];
    let all: Vec<_> = broken.into_iter().chain([good.clone()]).collect();
    team.tag(&all).await;
    team.attach(&json!([1, 2]), true).await;
    team.is_published(&by_key(&key)).await;
    // Those beyond the bound are not looked at.
    let mut many = vec![(b"{}".to_vec(), sign(&key, b"{}")); 32];
    many.push(good);
    team.tag(&many).await;
    let refused = team.refusal(&by_key(&key)).await;
    assert_eq!(refused.reason, FailureReason::SignatureInvalid);
    // Something else under the tag is no signature, and no fault where none is asked for.
    let team = Team::new().await;
    let tag = signature_tag(&team.digest);
    let store = team.store();
    store.push_manifest(THERE, &tag, "[".into()).await.unwrap();
    let refused = team.refusal(&by_key(&key)).await;
    assert_eq!(refused.reason, FailureReason::SignatureMissing);
    team.is_published(&Policies::new(vec![Policy {
        name: "open".into(),
        require: Vec::new(),
    }]))
    .await;
}

fn platform_key() -> SigningKey {
    support::install_crypto();
    let key = rcgen::KeyPair::generate().unwrap();
    SigningKey::parse(key.serialize_pem().as_bytes()).unwrap()
}

/// An artifact in a store, signed by the platform.
struct Signed {
    registry: OciRegistry,
    digest: Digest,
    key: SigningKey,
    work: tempfile::TempDir,
}

impl Signed {
    async fn new() -> Self {
        let mut signed = Self {
            registry: OciRegistry::start(None).await,
            digest: Digest::of(b""),
            key: platform_key(),
            work: ready().await,
        };
        let published = signed.publish(&signed.key).await;
        assert_eq!(published.signed_by, Some(signed.key.public().id()));
        signed.digest = published.pushed.digest;
        signed
    }

    fn store(&self) -> StoreClient {
        self.registry.client(None)
    }

    async fn publish(&self, key: &SigningKey) -> Published {
        let publication = Publication {
            store: &self.store(),
            repository: REPOSITORY,
            tag: TAG,
            demand: &Policies::default(),
            key: Some(key),
        };
        let work = Work::at(self.work.path());
        publication.package(&work, false).await.unwrap()
    }

    async fn check(&self, keys: &[&SigningKey]) -> Result<Digest, CheckError> {
        let keys: Vec<PublicKey> = keys.iter().map(|key| key.public().clone()).collect();
        platform::check(&self.store(), REPOSITORY, &self.digest, &keys).await
    }

    async fn cause(&self, keys: &[&SigningKey]) -> FailureReason {
        let error = self.check(keys).await.expect_err("it must be refused");
        assert!(error.is_refusal(), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(self.digest.as_str()), "{message}");
        match error {
            CheckError::Refused { refusal, .. } => refusal.reason,
            error => panic!("{error:?}"),
        }
    }

    async fn manifest(&self) -> Value {
        let tag = signature_tag(&self.digest);
        let manifest = self.store().tagged_bytes(REPOSITORY, &tag).await.unwrap();
        serde_json::from_slice(&manifest.unwrap()).unwrap()
    }

    async fn replace(&self, manifest: &Value) {
        let tag = signature_tag(&self.digest);
        let store = self.store();
        let pushed = store.push_manifest(REPOSITORY, &tag, manifest.to_string().into());
        pushed.await.unwrap();
    }

    async fn payload(&self) -> Value {
        let layer = self.manifest().await["layers"][0].take();
        let blob: Descriptor = serde_json::from_value(layer).unwrap();
        let content = self.store().blob(REPOSITORY, &blob, 10_000).await.unwrap();
        serde_json::from_slice(&content).unwrap()
    }
}

#[tokio::test]
async fn what_is_pushed_is_signed_and_the_signed_text_says_what_it_was_made_from() {
    let signed = Signed::new().await;
    assert_eq!(
        signed.check(&[&signed.key]).await.unwrap(),
        signed.key.public().id()
    );
    let payload = signed.payload().await;
    let image = &payload["critical"]["image"]["docker-manifest-digest"];
    assert_eq!(image, signed.digest.as_str());
    let optional = &payload["optional"];
    assert_eq!(optional["ing.paperclip.plugins.source"], "configMap");
    let integrity = &optional["ing.paperclip.plugins.integrity"];
    assert_eq!(*integrity, subject(signed.work.path()).integrity);
    let layer = signed.manifest().await["layers"][0].take();
    assert_eq!(layer["mediaType"], PAYLOAD);
}

#[tokio::test]
async fn artifact_in_the_store_counts_as_packed_when_one_of_the_keys_signed_it() {
    let signed = Signed::new().await;
    let store = signed.store();
    let request = PackRequest {
        package: PLUGIN.into(),
        version: "1.0.0".into(),
        repository: REPOSITORY.into(),
        ..PackRequest::default()
    };
    let manifest = store.manifest_bytes(REPOSITORY, &signed.digest).await;
    let (tag, manifest) = (request.tag(), manifest.unwrap());
    let tagged = store.push_manifest(REPOSITORY, &tag, manifest);
    tagged.await.unwrap();
    let find = async |keys: &[&SigningKey]| {
        let keys: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
        let found = stored::find(&store, &request, &keys).await.unwrap();
        found.map(|(found, key)| (found.digest, key))
    };
    let (newer, ours) = (platform_key(), &signed.key);
    let wanted = (signed.digest.clone(), ours.public().id());
    assert_eq!(find(&[&newer, ours]).await, Some(wanted));
    assert_eq!(find(&[&newer]).await, None);
    signed.replace(&json!({"layers": []})).await;
    assert_eq!(find(&[ours]).await, None);
}

/// A store may point any tag at anything that was signed once.
#[tokio::test]
async fn artifact_of_another_version_under_the_tag_of_a_request_is_not_taken_for_it() {
    let signed = Signed::new().await;
    let (store, digest) = (signed.store(), &signed.digest);
    let manifest = store.manifest_bytes(REPOSITORY, digest).await.unwrap();
    let request = |version: &str| PackRequest {
        package: PLUGIN.into(),
        version: version.into(),
        repository: REPOSITORY.into(),
        ..PackRequest::default()
    };
    for version in ["1.0.0", "2.0.0"] {
        let tag = request(version).tag();
        let tagged = store.push_manifest(REPOSITORY, &tag, manifest.clone());
        tagged.await.unwrap();
    }
    let found = stored::find_unsigned(&store, &request("1.0.0"))
        .await
        .unwrap();
    assert_eq!(&found.unwrap().digest, digest);
    let other = stored::find_unsigned(&store, &request("2.0.0"))
        .await
        .unwrap_err();
    assert!(other.to_string().contains("wanted 2.0.0"), "{other}");
}

/// The check that `cosign verify --key` makes of the signed text, by a program not written
/// here.
#[tokio::test]
async fn signature_holds_for_openssl() {
    let signed = Signed::new().await;
    let layer = signed.manifest().await["layers"][0].take();
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str();
    let signature = STANDARD.decode(signature.unwrap()).unwrap();
    let blob: Descriptor = serde_json::from_value(layer).unwrap();
    let payload = signed
        .store()
        .blob(REPOSITORY, &blob, 10_000)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("cosign.pub"), signed.key.public().to_pem()).unwrap();
    fs::write(path("signature"), signature).unwrap();
    let verify = |payload: &[u8]| {
        fs::write(path("payload"), payload).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(folder.path()).args(["dgst", "-sha256"]);
        openssl.args([
            "-verify",
            "cosign.pub",
            "-signature",
            "signature",
            "payload",
        ]);
        openssl.output()
    };
    let held = verify(&payload).expect("the program openssl, a package of every distribution");
    assert!(held.status.success(), "{held:?}");
    let tampered = [&payload[..], b" "].concat();
    assert!(!verify(&tampered).unwrap().status.success());
}

#[tokio::test]
async fn key_signs_once_and_a_new_key_signs_beside_it() {
    let signed = Signed::new().await;
    let before = signed.registry.content(REPOSITORY);
    signed.publish(&signed.key).await;
    assert_eq!(signed.registry.content(REPOSITORY), before);
    let newer = platform_key();
    assert_eq!(
        signed.cause(&[&newer]).await,
        FailureReason::SignatureInvalid
    );
    signed.publish(&newer).await;
    for keys in [[&signed.key], [&newer]] {
        assert!(signed.check(&keys).await.is_ok());
    }
    let third = platform_key();
    assert!(signed.check(&[&third, &newer]).await.is_ok());
    assert_eq!(
        signed.cause(&[&third]).await,
        FailureReason::SignatureInvalid
    );
}

#[tokio::test]
async fn signature_that_is_missing_foreign_tampered_or_of_another_artifact_is_refused() {
    let signed = Signed::new().await;
    let keys = [&signed.key];
    let honest = signed.manifest().await;
    let other = platform_key();
    assert_eq!(
        signed.cause(&[&other]).await,
        FailureReason::SignatureInvalid
    );

    // A payload that was changed, under the signature of the one before.
    let mut payload = signed.payload().await;
    payload["optional"]["ing.paperclip.plugins.source"] = "https://evil.example".into();
    let payload = Bytes::from(payload.to_string());
    let mut forged = honest.clone();
    let annotations = forged["layers"][0]["annotations"].clone();
    forged["layers"][0] = json!(Descriptor::of(PAYLOAD, &payload));
    forged["layers"][0]["annotations"] = annotations;
    let store = signed.store();
    let blob = Digest::of(&payload);
    store.push_blob(REPOSITORY, &blob, payload).await.unwrap();
    signed.replace(&forged).await;
    assert_eq!(signed.cause(&keys).await, FailureReason::SignatureInvalid);

    // A signature of the platform's, of something else.
    let another = Digest::of(b"another");
    let origin = Origin::default();
    let made = platform::sign(&store, REPOSITORY, &another, &origin, &signed.key).await;
    made.unwrap();
    let theirs = store
        .tagged_bytes(REPOSITORY, &signature_tag(&another))
        .await;
    let theirs = serde_json::from_slice(&theirs.unwrap().unwrap()).unwrap();
    signed.replace(&theirs).await;
    assert_eq!(signed.cause(&keys).await, FailureReason::SignatureInvalid);

    signed.replace(&json!({"layers": []})).await;
    assert_eq!(signed.cause(&keys).await, FailureReason::SignatureMissing);
    signed.replace(&honest).await;
    assert!(signed.check(&keys).await.is_ok());
}

#[tokio::test]
async fn copy_of_an_image_is_signed_by_the_platform_that_took_it() {
    let (team, here) = (Team::new().await, OciRegistry::start(None).await);
    let key = platform_key();
    let store = here.client(None);
    let published = team.publish(&store, &Policies::default(), Some(&key)).await;
    assert_eq!(published.unwrap().signed_by, Some(key.public().id()));
    let keys = [key.public().clone()];
    let checked = platform::check(&store, REPOSITORY, &team.digest, &keys).await;
    assert!(checked.is_ok());
    let copied = Source::Store {
        client: store,
        repository: REPOSITORY.into(),
    };
    let scratch = tempfile::tempdir().unwrap();
    let whole = verify::verify(&copied, &team.digest, scratch.path()).await;
    let parts: Vec<_> = whole
        .unwrap()
        .checks
        .into_iter()
        .map(|it| it.what)
        .collect();
    assert!(
        parts.contains(&Kind::Evidence.name().to_owned()),
        "{parts:?}"
    );
}

#[test]
fn key_of_another_kind_or_none_is_no_signing_key() {
    support::install_crypto();
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for text in [ed25519.serialize_pem(), "nonsense".into()] {
        assert!(SigningKey::parse(text.as_bytes()).is_err());
    }
    let key = key();
    let two = format!("{}\n{}", pem(&key), pem(&key));
    assert_eq!(PublicKey::parse_all(&two).unwrap().len(), 2);
    assert!(PublicKey::parse_all(" \n").is_err());
    assert!(PublicKey::parse_all(&format!("{two}rest")).is_err());
}
