//! Evidence from a registry, and the judgement of an artifact in a store.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::Opened;
use paperclip_artifact::trust::verification::Verification;
use paperclip_artifact::trust::{Evidence, Policy};
use paperclip_oci::source::Source;
use paperclip_packer::evidence;
use paperclip_packer::npm::registry::{Registry, RegistryClient};
use paperclip_packer::steps::verify::judge;
use paperclip_packing_api::report::{Failure, FailureReason};
use paperclip_packing_api::request::StoreEndpoints;
use paperclip_packing_api::verification::VerifyRequest;
use serde_json::{Value, json};
use sigstore_verify::crypto::KeyPair;

use super::npm::{by_key, signed, subject, text_of};
use super::store::Store;

type Asked = Arc<Mutex<Vec<String>>>;

/// An npm registry that gives these answers by path, and the paths it was asked for.
async fn registry(answers: Vec<(&'static str, Value)>) -> (RegistryClient, Asked) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let asked = Asked::default();
    let answer = move |State(asked): State<Asked>, request: Request| {
        let path = request.uri().path().to_owned();
        let found = answers.iter().find(|(at, _)| *at == path);
        let answer: Response = match found {
            Some((_, answer)) => axum::Json(answer.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
        asked.lock().unwrap().push(path);
        async move { answer }
    };
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/npm/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (RegistryClient::new(&Registry::new(&url)).unwrap(), asked)
}

fn document(distribution: Value) -> Value {
    json!({
        "name": "@acme/p",
        "time": { "1.2.3": "2024-05-06T07:08:09.123Z" },
        "versions": { "1.2.3": { "dist": distribution } },
    })
}

#[tokio::test]
async fn registry_is_asked_for_signatures_and_attestations_of_the_version() {
    let document = document(json!({
        "signatures": [{ "keyid": "SHA256:a", "sig": "c2ln" }],
        "attestations": { "url": "https://elsewhere.example/-/npm/v1/attestations/x" },
    }));
    let attestations = json!({ "attestations": [
        { "predicateType": "a", "bundle": { "one": 1 } },
        { "predicateType": "b", "bundle": { "two": 2 } },
    ]});
    let place = "/npm/-/npm/v1/attestations/@acme%2fp@1.2.3";
    let (client, asked) = registry(vec![("/npm/@acme%2fp", document), (place, attestations)]).await;
    let evidence = evidence::npm::of_npm(&client, subject()).await.unwrap();
    assert_eq!(evidence.npm_signatures[0].keyid, "SHA256:a");
    assert_eq!(evidence.published, Some(1_714_979_289));
    let bundles: Vec<_> = evidence
        .npm_attestations
        .iter()
        .map(|one| one.get())
        .collect();
    assert_eq!(bundles, [r#"{"one":1}"#, r#"{"two":2}"#]);
    assert_eq!(*asked.lock().unwrap(), ["/npm/@acme%2fp", place]);
}

#[tokio::test]
async fn registry_that_signs_nothing_is_no_fault() {
    let (client, asked) = registry(vec![("/npm/@acme%2fp", document(json!({})))]).await;
    let evidence = evidence::npm::of_npm(&client, subject()).await.unwrap();
    assert!(evidence.npm_signatures.is_empty() && evidence.npm_attestations.is_empty());
    assert_eq!(asked.lock().unwrap().len(), 1);
}

fn request(store: &Store, policies: Vec<Policy>) -> VerifyRequest {
    VerifyRequest {
        store: StoreEndpoints {
            read: store.address.clone(),
            push: store.address.clone(),
            plain_http: true,
        },
        repository: "p".into(),
        digest: store.digest.clone(),
        package: "@acme/p".into(),
        copied: false,
        policies,
    }
}

fn policy(key: &KeyPair) -> Policy {
    Policy {
        name: "signed".into(),
        require: vec![by_key(key, None)],
    }
}

#[tokio::test]
async fn artifact_is_judged_by_what_was_recorded_and_the_record_says_so() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let store = Store::with_artifact(&subject()).await;
    store.attach(&signed(&key, &text_of(&subject()))).await;
    let judged = judge(&store.client, &request(&store, vec![policy(&key)]))
        .await
        .unwrap();
    assert_eq!(judged.proofs, ["signed: npmSignature by SHA256:a"]);
    let source = Source::Store {
        client: store.client.clone(),
        repository: "p".into(),
    };
    let opened = Opened::open(&source, &store.digest).await.unwrap();
    let record = opened.attached(Kind::Verification).await.unwrap();
    let record: Verification = serde_json::from_slice(&record).unwrap();
    assert_eq!(record.artifact, store.digest);
    assert_eq!(record.proofs[0].policy, "signed");
}

async fn refusal(store: &Store, policies: Vec<Policy>) -> Failure {
    let error = judge(&store.client, &request(store, policies)).await;
    Failure::from(&error.expect_err("it must be refused"))
}

#[tokio::test]
async fn artifact_that_was_packed_without_evidence_carries_no_signature() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let store = Store::with_artifact(&subject()).await;
    let failure = refusal(&store, vec![policy(&key)]).await;
    assert_eq!(failure.reason, FailureReason::SignatureMissing);
    assert!(failure.reason.is_fault_of_package());
}

/// Whoever can push to the store can attach evidence, but none that holds.
#[tokio::test]
async fn evidence_that_speaks_of_another_tarball_is_refused() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let other = paperclip_artifact::trust::Subject {
        integrity: paperclip_artifact::toolchain::NPM_INTEGRITY.into(),
        ..subject()
    };
    let store = Store::with_artifact(&subject()).await;
    let replayed = Evidence {
        subject: other.clone(),
        ..signed(&key, &text_of(&other))
    };
    store.attach(&replayed).await;
    let failure = refusal(&store, vec![policy(&key)]).await;
    assert_eq!(failure.reason, FailureReason::SignatureInvalid);
    let store = Store::with_artifact(&subject()).await;
    let lying = Evidence {
        subject: subject(),
        ..replayed
    };
    store.attach(&lying).await;
    let failure = refusal(&store, vec![policy(&key)]).await;
    assert_eq!(failure.reason, FailureReason::SignatureInvalid);
}

#[tokio::test]
async fn evidence_of_a_later_packing_counts_beside_the_first() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let store = Store::with_artifact(&subject()).await;
    let unsigned = Evidence {
        subject: subject(),
        ..Evidence::default()
    };
    store.attach(&unsigned).await;
    store.attach(&signed(&key, &text_of(&subject()))).await;
    assert!(
        judge(&store.client, &request(&store, vec![policy(&key)]))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn every_policy_must_be_met() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let other = KeyPair::generate_ecdsa_p256().unwrap();
    let store = Store::with_artifact(&subject()).await;
    store.attach(&signed(&key, &text_of(&subject()))).await;
    let stricter = Policy {
        name: "stricter".into(),
        ..policy(&other)
    };
    let failure = refusal(&store, vec![policy(&key), stricter]).await;
    assert_eq!(failure.reason, FailureReason::SignatureInvalid);
    assert!(
        failure.message.contains("policy stricter"),
        "{}",
        failure.message
    );
}
