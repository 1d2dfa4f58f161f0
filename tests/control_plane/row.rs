//! The kinds of the matrix: what changes of them, and what Bindery has to do about it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::world::CANARY;

/// In this time what the API server holds is acted on, once it can be seen. A minute would do where one operator has the
/// machine; here there are fifty.
const BOUND: Duration = Duration::from_secs(240);

/// A kind that Bindery watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Binding,
    Grant,
    Namespace,
    Secret,
}

pub const ALL: [Row; 4] = [Row::Binding, Row::Grant, Row::Namespace, Row::Secret];

/// The value of a key in its n-th version.
pub fn value(key: &str, number: u32) -> String {
    format!("{CANARY}-{key}-{number}")
}

/// Puts the n-th version of the secret `app`.
pub async fn put(world: &World, number: u32) {
    world.put("app", &json!({"A": value("A", number), "B": value("B", number)})).await;
}

impl Row {
    /// The kind, as health names it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Binding => "SecretBinding",
            Self::Grant => "SecretGrant",
            Self::Namespace => "Namespace",
            Self::Secret => "Secret",
        }
    }

    /// The resource that is listed and watched.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Binding => "secretbindings",
            Self::Grant => "secretgrants",
            Self::Namespace => "namespaces",
            Self::Secret => "secrets",
        }
    }

    /// The resource that is written.
    pub const fn written(self) -> Option<&'static str> {
        match self {
            Self::Binding => Some("secretbindings/status"),
            Self::Grant => Some("secretgrants/status"),
            Self::Namespace => None,
            Self::Secret => Some("secrets"),
        }
    }

    fn grant(self, world: &World, names: &[&str], label: &str) -> Value {
        let secrets: Vec<Value> = names.iter().map(|name| json!({"name": world.secret_id(name)})).collect();
        let namespaces = if self == Self::Namespace {
            json!({"selector": {"matchLabels": {label: world.namespace}}})
        } else {
            json!({"names": [world.namespace]})
        };
        json!({"namespaces": namespaces, "secrets": secrets, "aws": {"region": "eu-west-1"}})
    }

    /// Two bindings, of which the grants allow one, and an object of the kind that may become unreadable.
    pub async fn prepare(self, world: &World) {
        put(world, 1).await;
        world.put("other", &json!({"O": value("O", 1)})).await;
        world.grant_with(&world.namespace, self.grant(world, &["app"], "example.com/app")).await;
        if self == Self::Namespace {
            world.grant_with(&other_grant(world), self.grant(world, &["other"], "example.com/other")).await;
            label(world, &json!({"example.com/app": world.namespace})).await;
        }
        bind(world, "app", &json!(["*"])).await;
        world
            .bind("other", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("other")}]}))
            .await;
        self.touch_decoy(world).await;
    }

    /// Makes the object that may become unreadable, or touches it.
    pub async fn touch_decoy(self, world: &World) {
        let params = PatchParams::apply("test").force();
        let metadata = json!({"name": decoy(world), "labels": {"bindery.dev/managed": "true"},
            "annotations": {"example.com/touched": fastrand::u32(..).to_string()}});
        match self {
            Self::Binding => {
                let spec = json!({"suspend": true, "dataFrom": [{"secret": "nothing"}]});
                let object = json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": metadata, "spec": spec});
                world.bindings().patch(&decoy(world), &params, &Patch::Apply(&object)).await.unwrap();
            }
            Self::Grant => {
                let number = fastrand::u32(..).to_string();
                let spec = json!({"namespaces": {"names": [decoy(world)]}, "secrets": [{"name": number}], "aws": {"region": "eu-west-1"}});
                world.grant_with(&decoy(world), spec).await;
            }
            Self::Namespace => {
                let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
                let api: Api<Namespace> = Api::all(world.client.clone());
                api.patch(&decoy(world), &params, &Patch::Apply(&object)).await.unwrap();
            }
            Self::Secret => {
                let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
                world.secrets().patch(&decoy(world), &params, &Patch::Apply(&object)).await.unwrap();
            }
        }
    }

    /// What happens while no operator runs.
    pub async fn change_before_start(self, world: &World) {
        match self {
            Self::Binding => bind(world, "app", &json!(["A"])).await,
            Self::Grant => world.grant_with(&world.namespace, self.grant(world, &["app", "other"], "")).await,
            Self::Namespace => label(world, &json!({"example.com/other": world.namespace})).await,
            Self::Secret => world.secrets().delete("app", &DeleteParams::default()).await.map(|_| ()).unwrap(),
        }
    }

    /// What Bindery has to do about it. Answers what it did not do.
    pub async fn acted_on_start(self, world: &World) -> Option<String> {
        match self {
            Self::Binding => until(world, "app", &[("A", 1)]).await,
            Self::Grant | Self::Namespace => until(world, "other", &[("O", 1)]).await,
            Self::Secret => until(world, "app", &[("A", 1), ("B", 1)]).await,
        }
    }

    /// What happens while the operator runs: the key `A` of `app` is no longer to be had. Of a Secret nothing is revoked.
    pub async fn revoke(self, world: &World) {
        match self {
            Self::Binding => bind(world, "app", &json!(["B"])).await,
            Self::Grant => world.grant_with(&world.namespace, self.grant(world, &["other"], "")).await,
            Self::Namespace => label(world, &json!({"example.com/app": null})).await,
            Self::Secret => {
                let edit = json!({"stringData": {"A": "by hand"}});
                world.secrets().patch("app", &PatchParams::default(), &Patch::Merge(&edit)).await.map(|_| ()).unwrap();
            }
        }
    }

    /// What Bindery has to do about it, where AWS holds this version. Answers what it did not do.
    pub async fn acted_on_revocation(self, world: &World, number: u32) -> Option<String> {
        match self {
            Self::Binding => until(world, "app", &[("B", number)]).await,
            Self::Grant | Self::Namespace => {
                let started = std::time::Instant::now();
                loop {
                    let said = world.condition("app", "Granted").await;
                    if said.as_ref().is_some_and(|(state, _)| state == "False/AccessDenied") {
                        return None;
                    }
                    if started.elapsed() > BOUND {
                        return Some(format!("Granted is {said:?}"));
                    }
                    tokio::time::sleep(super::LOOK).await;
                }
            }
            Self::Secret => until(world, "app", &[("A", number), ("B", number)]).await,
        }
    }

    /// Removes what stands outside the namespace.
    pub async fn clean_up(self, world: &World) {
        let _ = Api::<Namespace>::all(world.client.clone()).delete(&decoy(world), &DeleteParams::background()).await;
        for name in [decoy(world), other_grant(world)] {
            let grants: Api<bindery::api::SecretGrant> = Api::all(world.client.clone());
            let _ = grants.delete(&name, &DeleteParams::default()).await;
        }
    }
}

fn decoy(world: &World) -> String {
    format!("decoy-{}", world.namespace)
}

fn other_grant(world: &World) -> String {
    format!("{}-other", world.namespace)
}

async fn bind(world: &World, name: &str, include: &Value) {
    let source = json!({"secret": world.secret_id("app"), "include": include});
    world.bind(name, json!({"refreshInterval": "10s", "dataFrom": [source]})).await;
}

async fn label(world: &World, labels: &Value) {
    let api: Api<Namespace> = Api::all(world.client.clone());
    let change = json!({"metadata": {"labels": labels}});
    api.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
}

/// Waits until a Secret holds these keys in these versions, and no others. Answers what it holds instead.
async fn until(world: &World, secret: &str, expected: &[(&str, u32)]) -> Option<String> {
    let started = std::time::Instant::now();
    let expected = expected.iter().map(|(key, number)| ((*key).to_owned(), value(key, *number))).collect();
    loop {
        let data = world.data(secret).await;
        if data.as_ref() == Some(&expected) {
            return None;
        }
        if started.elapsed() > BOUND {
            return Some(format!(
                "the Secret {secret} holds {:?}",
                data.map(|data| data.into_keys().collect::<Vec<_>>())
            ));
        }
        tokio::time::sleep(super::LOOK).await;
    }
}
