//! Bindings over secrets: namespaces, grants, what is in Secrets Manager and what must be in Kubernetes.

use std::collections::BTreeMap;

use bindery::api::{SecretBinding, SecretGrant};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, LABEL, work};
use super::standin::StandIn;

/// How many namespaces share the bindings of a world.
pub const NAMESPACES: usize = 10;

/// The key that tells which version of a secret a Secret holds.
pub const ROUND: &str = "ROUND";

/// Bindings over secrets.
#[derive(Clone, Debug)]
pub struct World {
    /// Its name, which is also the prefix of its secrets' names.
    pub name: String,
    /// How many bindings.
    pub bindings: usize,
    /// Over how many secrets.
    pub secrets: usize,
    /// Every second binding is over the version before the current one, which must exist.
    pub previous: bool,
    /// Each binding has two rotation rules, which are not due for a long time.
    pub rules: bool,
}

impl World {
    /// The name of a secret in Secrets Manager.
    pub fn secret(&self, number: usize) -> String {
        format!("{}/s{number}", self.name)
    }

    /// The namespace of a binding. The bindings over one secret lie in different namespaces.
    fn namespace(&self, binding: usize) -> String {
        format!("{}-{}", self.name, binding * NAMESPACES / self.bindings)
    }

    fn namespaces(&self) -> Vec<String> {
        (0..NAMESPACES).map(|number| format!("{}-{number}", self.name)).collect()
    }

    fn reads_previous(&self, binding: usize) -> bool {
        self.previous && binding % 2 == 1
    }

    /// Puts a version of each secret into Secrets Manager.
    pub fn put_all(&self, aws: &StandIn, round: usize) {
        for number in 0..self.secrets {
            aws.put(&self.secret(number), &payload(number, round).to_string());
        }
    }

    /// Makes its namespaces, grants and bindings, and the first version of each secret.
    pub async fn create(&self, cluster: &Cluster, aws: &StandIn) {
        println!("   makes {} bindings over {} secrets", self.bindings, self.secrets);
        self.put_all(aws, 0);
        cluster.make_namespaces(&self.name, &self.namespaces()).await;
        let grants: Api<SecretGrant> = Api::all(cluster.client.clone());
        for namespace in self.namespaces() {
            let grant = json!({
                "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretGrant",
                "metadata": {"name": namespace, "labels": {LABEL: self.name}},
                "spec": {
                    "namespaces": {"names": [namespace]},
                    "secrets": [{"name": format!("{}/*", self.name)}],
                    "aws": {"region": "eu-west-1"},
                    "targetMetadata": [LABEL],
                },
            });
            grants.create(&PostParams::default(), &serde_json::from_value(grant).unwrap()).await.unwrap();
        }
        let (world, client) = (self.clone(), cluster.client.clone());
        work("bindings made", self.bindings, move |number| {
            let api: Api<SecretBinding> = Api::namespaced(client.clone(), &world.namespace(number));
            let binding = world.binding(number);
            async move {
                api.create(&PostParams::default(), &binding).await.unwrap();
            }
        })
        .await;
    }

    fn binding(&self, number: usize) -> SecretBinding {
        let mut source = json!({"secret": self.secret(number % self.secrets)});
        if self.reads_previous(number) {
            source["versionStage"] = json!("AWSPREVIOUS");
        }
        let mut binding = json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"name": format!("b{number}"), "labels": {LABEL: self.name}},
            "spec": {"dataFrom": [source], "target": {"labels": {LABEL: self.name}}},
        });
        if self.rules {
            binding["spec"]["rotation"] = json!([
                {"name": "token", "keys": ["API_TOKEN"], "every": "90d", "warnBefore": "7d"},
                {"name": "database", "keys": ["DATABASE_URL"], "schedule": "0 9 1 1 *", "timeZone": "Europe/Zurich"},
            ]);
        }
        serde_json::from_value(binding).unwrap()
    }

    /// How many Secrets hold exactly what they should, if the current version of each secret is `round`.
    pub async fn exact(&self, cluster: &Cluster, round: usize) -> usize {
        let api: Api<Secret> = Api::all(cluster.client.clone());
        let list = api.list(&ListParams::default().labels(&format!("{LABEL}={}", self.name))).await.unwrap();
        let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
        for secret in list {
            let data = secret.data.unwrap_or_default().into_iter();
            let data = data.map(|(key, value)| (key, Value::from(String::from_utf8_lossy(&value.0).into_owned())));
            let name = (secret.metadata.namespace.unwrap_or_default(), secret.metadata.name.unwrap_or_default());
            found.insert(name, Value::Object(data.collect()));
        }
        let is_exact = |number: &usize| {
            let round = if self.reads_previous(*number) { round - 1 } else { round };
            let name = (self.namespace(*number), format!("b{number}"));
            found.get(&name) == Some(&payload(number % self.secrets, round))
        };
        (0..self.bindings).filter(is_exact).count()
    }
}

/// The payload of a secret: three keys, about 300 bytes.
pub fn payload(number: usize, round: usize) -> Value {
    json!({
        "DATABASE_URL": format!("postgresql://app-{number:05}:{:>0100}@db.example.internal:5432/app", number * 7919 + round),
        "API_TOKEN": format!("{:>0100}", number * 104_729 + round),
        ROUND: round.to_string(),
    })
}
