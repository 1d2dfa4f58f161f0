//! Reads of single objects: a Secret with its values, which is needed where an old and a new value are compared or live
//! side by side (metadata suffice for everything else), and the templates of Jobs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::GetParams;
use kube::core::Request;
use kube::{Api, Resource};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::ANNOTATION_ADOPT_BY;
use crate::domain::metadata::readable;
use crate::domain::target::SecretMeta;
use crate::domain::value::Value;
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::deadline::timed_out;

const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A Secret with its values. `Debug` shows names only.
pub struct PublishedSecret {
    /// Its metadata.
    pub meta: SecretMeta,
    /// Its type.
    pub type_: String,
    /// Its values, by key.
    pub data: BTreeMap<String, Value>,
}

impl PublishedSecret {
    /// Whether it consents to be adopted, so that it was there before its binding.
    #[must_use]
    pub fn is_adoptable(&self) -> bool {
        self.meta.metadata.annotations.iter().flatten().any(|(name, _)| name == ANNOTATION_ADOPT_BY)
    }
}

impl fmt::Debug for PublishedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.data.keys()).finish()
    }
}

/// Reads a Secret; `None` where there is none.
///
/// # Errors
/// Where the API server does not tell.
pub async fn read_secret(
    client: ReadClient<'_>,
    namespace: &str,
    name: &str,
) -> Result<Option<PublishedSecret>, kube::Error> {
    let url = format!("/api/v1/namespaces/{namespace}/secrets");
    let request = Request::new(url).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    let permitted = client.request().await;
    match timeout(READ_TIMEOUT, permitted.client.request::<Stored>(request)).await.map_err(|_| timed_out())? {
        Ok(Stored { metadata, type_, data }) => {
            let meta = SecretMeta { metadata };
            let data = data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
            Ok(Some(PublishedSecret { meta, type_, data }))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads an object of a namespace, such as a CronJob or a Job; `None` where there is none.
///
/// # Errors
/// Where the API server does not tell.
pub async fn read_object<K>(client: ReadClient<'_>, namespace: &str, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let permitted = client.request().await;
    let api: Api<K> = Api::namespaced(permitted.client.clone(), namespace);
    timeout(READ_TIMEOUT, api.get_opt(name)).await.map_err(|_| timed_out())?
}

/// Reads the metadata of a Secret; `None` where there is none.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn read_secret_metadata(
    client: ReadClient<'_>,
    namespace: &str,
    name: &str,
) -> Result<Option<SecretMeta>, kube::Error> {
    let permitted = client.request().await;
    let api: Api<SecretMeta> = Api::namespaced(permitted.client.clone(), namespace);
    timeout(READ_TIMEOUT, api.get_opt(name)).await.map_err(|_| timed_out())?
}

#[derive(serde::Deserialize)]
struct Stored {
    #[serde(default, deserialize_with = "readable")]
    metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    type_: String,
    data: Option<BTreeMap<String, DecodedValue>>,
}

/// A value as it stands in a Secret.
struct DecodedValue(Value);

impl<'de> Deserialize<'de> for DecodedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The error must not quote the value.
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| D::Error::custom("a value is not Base64"))?;
        Ok(Self(Value::from(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_decoded_and_never_shown() {
        let stored: Stored = serde_json::from_value(json!({
            "metadata": {"name": "s", "resourceVersion": "7"}, "data": {"A": "aHVudGVyMg==", "B": ""},
        }))
        .unwrap();
        let data: BTreeMap<_, _> = stored.data.unwrap().into_iter().map(|(key, value)| (key, value.0)).collect();
        assert_eq!(data["A"].expose(), b"hunter2");
        assert_eq!(data["B"].expose(), b"");
        let shown = format!("{:?}", PublishedSecret { meta: SecretMeta::default(), type_: String::new(), data });
        assert_eq!(shown, r#"{"A", "B"}"#);
        let error = serde_json::from_value::<Stored>(json!({"metadata": {"name": "s"}, "data": {"A": "hunter2!"}}))
            .err()
            .unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
