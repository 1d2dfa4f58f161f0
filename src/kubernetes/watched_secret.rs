//! A Secret as a list or a watch delivers it, reduced at once: a page of a list has many.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::{ObservedSecret, SecretMeta};

/// A Secret of a list or a watch.
#[derive(Clone, Debug)]
pub struct WatchedSecret {
    /// Its namespace, name and resource version.
    metadata: ObjectMeta,
    /// What it is, reduced.
    pub secret: Arc<ObservedSecret>,
}

impl WatchedSecret {
    /// Reduces a Secret.
    #[must_use]
    pub fn new(meta: &SecretMeta, key: &FingerprintKey) -> Self {
        let metadata = ObjectMeta {
            name: Some(meta.name_any()),
            namespace: meta.namespace(),
            resource_version: meta.resource_version(),
            ..ObjectMeta::default()
        };
        Self { metadata, secret: Arc::new(ObservedSecret::new(meta, key)) }
    }
}

impl Resource for WatchedSecret {
    type DynamicType = ();
    type Scope = <Secret as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
