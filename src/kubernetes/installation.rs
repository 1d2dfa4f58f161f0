//! What the installation itself needs of the API server: its kinds, and the Secret of its fingerprint key.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::FIELD_MANAGER;
use crate::domain::fingerprint::{FingerprintKey, KEY_LENGTH};
use crate::kubernetes::binding_object::BindingObject;
use crate::kubernetes::grant_object::GrantObject;

/// One request may take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a first request that failed, which doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while the kinds are not served: whoever installs them waits for it.
const KINDS_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause for the key.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Waits until the API server serves the kinds and lets the operator read them, the bindings in one of `namespaces` at
/// least (none = all). `tell` is told what it waits for.
pub async fn wait_for_kinds(client: &Client, namespaces: &[String], tell: impl Fn(String)) {
    let grants: Api<GrantObject> = Api::all(client.clone());
    let bindings: Vec<Api<BindingObject>> = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let mut problem = listed(&grants).await;
        if problem.is_none() {
            for bindings in &bindings {
                problem = listed(bindings).await;
                if problem.is_none() {
                    return;
                }
            }
        }
        let problem = problem.unwrap_or_default();
        if pause == FIRST_PAUSE {
            tracing::warn!("{problem}; waiting");
        }
        tell(problem);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(KINDS_PAUSE);
    }
}

/// What keeps a kind from being listed; `None` where nothing does.
async fn listed<K: Clone + DeserializeOwned + Debug>(api: &Api<K>) -> Option<String> {
    let one = ListParams::default().limit(1);
    match timeout(REQUEST_TIMEOUT, api.list(&one)).await {
        // An object that does not parse is the watch's concern; that it was served is what matters here.
        Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => None,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            Some("the CustomResourceDefinitions of bindery.dev are missing; apply crds/".to_owned())
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Some("the operator may not list secretbindings and secretgrants; apply its RBAC".to_owned())
        }
        Ok(Err(kube::Error::Api(status))) => {
            Some(format!("the list of secretbindings and secretgrants is answered {} {}", status.code, status.reason))
        }
        Ok(Err(error)) => Some(format!("the API server does not answer: {error}")),
        Err(_) => Some("the API server does not answer".to_owned()),
    }
}

/// Why there is no fingerprint key.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintKeyError {
    /// The Secret cannot be read or created.
    #[error(
        "the Secret {0:?} with the operator's fingerprint key cannot be read or created: {1}; allow get and create on secrets in the operator's namespace"
    )]
    Forbidden(String, String),
    /// The Secret holds something else.
    #[error("the Secret {0:?} does not hold a fingerprint key of 32 bytes; delete it and a new one is made")]
    Broken(String),
    /// Randomness.
    #[error("the system gives no random numbers")]
    Random,
}

/// Reads the fingerprint key of the installation, or makes one. Waits for an API server that does not answer.
///
/// # Errors
/// Where the Secret cannot be read or created, or holds something else.
pub async fn fingerprint_key(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<FingerprintKey, FingerprintKeyError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match read_or_make_key(client, namespace, name).await {
            Ok(key) => return Ok(key),
            Err(KeyAttemptError::Unanswered(error)) => error,
            Err(KeyAttemptError::Final(error)) => return Err(error),
        };
        tracing::warn!(%namespace, secret = %name, %error, "the fingerprint key cannot be read; it is tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why an attempt gave no key.
enum KeyAttemptError {
    /// The API server did not answer, or failed: this passes.
    Unanswered(String),
    /// This does not pass.
    Final(FingerprintKeyError),
}

impl KeyAttemptError {
    fn of(name: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code != 429 && status.code < 500 => {
                Self::Final(FingerprintKeyError::Forbidden(name.to_owned(), error.to_string()))
            }
            _ => Self::Unanswered(error.to_string()),
        }
    }
}

impl From<FingerprintKeyError> for KeyAttemptError {
    fn from(error: FingerprintKeyError) -> Self {
        Self::Final(error)
    }
}

async fn read_or_make_key(client: &Client, namespace: &str, name: &str) -> Result<FingerprintKey, KeyAttemptError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |error: kube::Error| KeyAttemptError::of(name, &error);
    let late = |_| KeyAttemptError::Unanswered("the API server did not answer in time".to_owned());
    for _ in 0..3 {
        let stored = timeout(REQUEST_TIMEOUT, api.get_opt(name)).await.map_err(late)?.map_err(failed)?;
        if let Some(secret) = stored {
            let stored = secret.data.and_then(|mut data| data.remove("key"));
            let bytes = Zeroizing::new(stored.map(|key| key.0).unwrap_or_default());
            let key = <[u8; KEY_LENGTH]>::try_from(bytes.as_slice())
                .map_err(|_| FingerprintKeyError::Broken(name.to_owned()))?;
            return Ok(FingerprintKey::new(Zeroizing::new(key)));
        }
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        getrandom::fill(key.as_mut_slice()).map_err(|_| FingerprintKeyError::Random)?;
        let created = timeout(REQUEST_TIMEOUT, create_fingerprint_key(client, namespace, name, &key));
        match created.await.map_err(late)? {
            Ok(()) => return Ok(FingerprintKey::new(key)),
            // Another replica was first: its key counts.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(FingerprintKeyError::Forbidden(name.to_owned(), "it is created and deleted again and again".to_owned()).into())
}

/// Creates the Secret that holds the operator's own random key.
///
/// # Errors
/// What Kubernetes refuses; 409 where another replica was first.
async fn create_fingerprint_key(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &Zeroizing<[u8; KEY_LENGTH]>,
) -> Result<(), kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".to_owned(), ByteString(key.to_vec()))])),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, &secret).await.map(|_| ())
}
