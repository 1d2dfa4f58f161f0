//! A ServiceAccount for the operator, with rights that a test gives and takes.

use bindery::api::SecretGrant;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Resource as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::operator::Setup;
use super::world::World;

/// A ServiceAccount in the namespace of a world.
pub struct Account<'a> {
    world: &'a World,
    kubeconfig: String,
}

/// What `deploy/` gives the operator by default, as rules of one namespace.
fn shipped_rules() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    objects.iter().flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default()).collect()
}

impl<'a> Account<'a> {
    /// Makes an account with the rights that `deploy/` gives; of Secrets, only these verbs.
    pub async fn new(world: &'a World, of_secrets: &[&str]) -> Self {
        let name = world.namespace.clone();
        let subjects = json!([{"kind": "ServiceAccount", "name": "operator", "namespace": name}]);
        let bound = |kind: &str, role: &str| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": subjects});
        let grants = json!([{
            "apiGroups": [SecretGrant::group(&())], "resources": [SecretGrant::plural(&())], "verbs": ["list", "watch"],
        }]);
        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &name);
        apply(&accounts, "operator", "v1", json!({})).await;
        apply(&Api::<ClusterRole>::all(world.client.clone()), &name, RBAC, json!({"rules": grants})).await;
        apply(&Api::<ClusterRoleBinding>::all(world.client.clone()), &name, RBAC, bound("ClusterRole", &name)).await;
        let in_namespace = bound("Role", "operator");
        apply(&Api::<RoleBinding>::namespaced(world.client.clone(), &name), "operator", RBAC, in_namespace).await;

        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let issued = accounts.create_token_request("operator", &PostParams::default(), &request).await.unwrap();
        let admin = Kubeconfig::read().unwrap();
        let context = admin.contexts.iter().find(|context| Some(&context.name) == admin.current_context.as_ref());
        let cluster = context.unwrap().context.clone().unwrap().cluster;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "operator", "clusters": admin.clusters,
            "users": [{"name": "operator", "user": {"token": issued.status.unwrap().token}}],
            "contexts": [{"name": "operator", "context": {"cluster": cluster, "user": "operator", "namespace": name}}],
        });
        let path = world.folder.join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let account = Self { world, kubeconfig: path.display().to_string() };
        account.allow(of_secrets).await;
        account
    }

    /// Lets the account do this with Secrets, and nothing else.
    pub async fn allow(&self, of_secrets: &[&str]) {
        let mut rules = shipped_rules();
        for rule in rules.iter_mut().filter(|rule| rule["resources"] == json!(["secrets"])) {
            rule["verbs"] = json!(of_secrets);
        }
        rules.retain(|rule| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()));
        let roles: Api<Role> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        apply(&roles, "operator", RBAC, json!({"rules": rules})).await;
    }

    /// How the operator of the world is started as this account.
    pub fn setup(&self) -> Setup {
        let variables = vec![("KUBECONFIG".to_owned(), self.kubeconfig.clone())];
        // The shipped rules name the lease by the operator's default name.
        Setup { name: "bindery".to_owned(), features: false, variables, ..self.world.setup() }
    }

    /// Removes what is not in the namespace.
    pub async fn end(self) {
        let (client, name) = (&self.world.client, &self.world.namespace);
        Api::<ClusterRole>::all(client.clone()).delete(name, &DeleteParams::default()).await.unwrap();
        Api::<ClusterRoleBinding>::all(client.clone()).delete(name, &DeleteParams::default()).await.unwrap();
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Applies an object of which only these fields matter.
pub async fn apply<K>(api: &Api<K>, name: &str, version: &str, fields: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let mut object = fields;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(K::kind(&()));
    object["metadata"] = json!({"name": name});
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
}
