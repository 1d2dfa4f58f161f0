//! Where one row runs: a namespace with one grant and one binding, an operator of its own, and its own way to AWS.

use std::path::PathBuf;
use std::time::Duration;

use bindery::api::{SecretBinding, SecretGrant};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::metadata::{Answer, Metadata};
use super::rows::{Cure, Row};
use crate::support::Fault;
use crate::support::account::apply;
use crate::support::aws_proxy::AwsProxy;
use crate::support::operator::{Kills, Operator, Setup, read_log};
use crate::support::world::CANARY;

/// Variables that the test program has, or may have, and that make the operator an identity or a region.
const VARIABLES: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
];

pub struct Place {
    pub namespace: String,
    client: Client,
    proxy: AwsProxy,
    metadata: Metadata,
    folder: PathBuf,
}

impl Place {
    pub async fn new(client: Client) -> Self {
        let namespace = format!("credentials-{:06x}", fastrand::u32(..0x0100_0000));
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let folder = std::env::temp_dir().join(format!("bindery-{namespace}"));
        std::fs::create_dir_all(&folder).unwrap();
        let upstream = std::env::var("AWS_ENDPOINT_URL").expect("these tests need AWS: run `make test`");
        let (proxy, metadata) = (AwsProxy::start(&upstream).await, Metadata::start().await);
        Self { namespace, client, proxy, metadata, folder }
    }

    /// A text of a row with the places that only the run knows.
    pub fn filled(&self, text: &str) -> String {
        text.replace("{folder}", self.folder.to_str().unwrap())
            .replace("{metadata}", &self.metadata.endpoint)
            .replace("{aws}", &self.proxy.endpoint)
            .replace("{namespace}", &self.namespace)
    }

    /// Brings about what the row says, and starts the operator.
    pub async fn begin(&self, row: &Row) -> Operator {
        for (name, text) in &row.files {
            self.write(name, text);
        }
        for (path, answer) in &row.answers {
            self.metadata.answer(path, answer.clone());
        }
        if let Some((operations, fault)) = &row.fault {
            self.proxy.fail(operations, fault.clone());
        }
        if let Some(annotation) = &row.account {
            self.account(annotation).await;
        }
        self.grant(&row.grant).await;
        self.bind(&row.secret).await;
        Operator::start(self.setup(row))
    }

    fn setup(&self, row: &Row) -> Setup {
        let given = |name: &str| row.variables.iter().any(|(given, _)| *given == name);
        Setup {
            folder: self.folder.clone(),
            namespaces: vec![self.namespace.clone()],
            home: self.namespace.clone(),
            name: "bindery".to_owned(),
            aws_endpoint: self.proxy.endpoint.clone(),
            pod: "bindery-0".to_owned(),
            features: true,
            log_level: "debug",
            flags: vec!["--fence=none".to_owned()],
            variables: row.variables.iter().map(|(name, value)| ((*name).to_owned(), self.filled(value))).collect(),
            without: VARIABLES.into_iter().filter(|name| *name != "AWS_ENDPOINT_URL" && !given(name)).collect(),
            kills: Kills::default(),
        }
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        if text == super::rows::FOLDER {
            std::fs::create_dir_all(path).unwrap();
        } else {
            // A row that began with a folder of this name ends with a file.
            let _ = std::fs::remove_dir(&path);
            std::fs::write(path, self.filled(text)).unwrap();
        }
    }

    pub async fn account(&self, annotation: &Value) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "annotations": annotation}});
        accounts.patch("reader", &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    }

    pub async fn grant(&self, aws: &Value) {
        let spec =
            json!({"namespaces": {"names": [self.namespace]}, "secrets": [{"name": "credentials/*"}], "aws": aws});
        let grants: Api<SecretGrant> = Api::all(self.client.clone());
        apply(&grants, &self.namespace, "bindery.dev/v1alpha1", json!({"spec": spec})).await;
    }

    async fn bind(&self, secret: &str) {
        let bindings: Api<SecretBinding> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = json!({"dataFrom": [{"secret": secret}]});
        apply(&bindings, "app", "bindery.dev/v1alpha1", json!({"spec": spec})).await;
    }

    /// Repairs what the row broke. False where only a new start can.
    pub async fn cure(&self, row: &Row) -> bool {
        match &row.cure {
            Cure::Restart => return false,
            Cure::File(name, text) => {
                self.write(name, text);
                // AWS goes on refusing another key, but takes this token.
                if !matches!(row.fault, Some((_, Fault::OnlyKey(_)))) {
                    self.proxy.heal();
                }
            }
            Cure::Heal => self.proxy.heal(),
            Cure::Answer(path, status, body) => self.metadata.answer(path, Answer::Now(*status, body.clone())),
            Cure::Account(annotation) => self.account(annotation).await,
            Cure::Grant(aws) => self.grant(aws).await,
        }
        true
    }

    /// A condition once it is as it should be, or what stands there after the limit.
    pub async fn condition(&self, type_: &str, expected: &str) -> (String, String) {
        let bindings: Api<SecretBinding> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut last = (String::new(), String::new());
        for _ in 0..600 {
            let status = bindings.get("app").await.unwrap().status;
            let conditions = status.map(|status| status.conditions).unwrap_or_default();
            if let Some(found) = conditions.into_iter().find(|condition| condition.type_ == type_) {
                last = (format!("{}/{}", found.status, found.reason), found.message);
                if last.0 == expected || (expected == "False" && found.status == "False") {
                    return last;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        last
    }

    pub async fn is_published(&self) -> bool {
        Api::<Secret>::namespaced(self.client.clone(), &self.namespace).get_opt("app").await.unwrap().is_some()
    }

    /// Whether a key or a token has left its path.
    pub fn leaks(&self) -> bool {
        read_log(&self.folder, "operator.log").contains(CANARY)
    }

    pub async fn end(self) {
        let _ = Api::<SecretGrant>::all(self.client.clone()).delete(&self.namespace, &DeleteParams::default()).await;
        let _ = Api::<Namespace>::all(self.client.clone()).delete(&self.namespace, &DeleteParams::background()).await;
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}
