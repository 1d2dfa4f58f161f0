//! The namespace, the secrets and the operator of one test.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::primitives::Blob;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bindery::api::{SecretBinding, SecretGrant};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::api_proxy::ApiProxy;
use super::aws_proxy::{AwsProxy, Call, Sent};
use super::operator::{Kills, Operator, Setup, read_log};
use super::release;
use crate::standin::{Options, StandIn};

/// Every value that the tests put into Secrets Manager holds this, so that a leak is found by it.
pub const CANARY: &str = "canary-7f3a";

/// With this variable, all worlds have the rights that the chart gives by default, and no more.
pub const DEFAULT_RIGHTS: &str = "BINDERY_TEST_DEFAULT_RIGHTS";

/// Waits until `look` gives something.
///
/// # Panics
/// After `limit`, with what was waited for.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The world of one test.
pub struct World {
    /// The namespace, which is also the prefix of the secrets' names.
    pub namespace: String,
    /// The client of a cluster administrator.
    pub client: Client,
    /// Secrets Manager as an administrator sees it, without the proxy.
    pub aws: aws_sdk_secretsmanager::Client,
    /// What stands between the operator and AWS.
    pub proxy: AwsProxy,
    /// Where the operator's files are.
    pub folder: PathBuf,
    kubeconfig: PathBuf,
    features: bool,
    values: Mutex<BTreeSet<String>>,
    kills: Kills,
    audit_logs: Mutex<Vec<String>>,
    audit_full: Mutex<Vec<(Instant, Option<Instant>)>>,
}

impl World {
    /// Makes a namespace, with a grant for all secrets whose names begin with it.
    pub async fn new(name: &str) -> Self {
        let world = Self::without_grant(name).await;
        world.grant(&world.namespace.clone(), &["*"]).await;
        world
    }

    /// Makes a namespace that may read nothing.
    pub async fn without_grant(name: &str) -> Self {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").expect(
            "these tests need a cluster and AWS: run `make test`, or `tests/cluster/cluster run -- cargo test`",
        );
        Self::at(name, &endpoint, features_are_on()).await
    }

    /// Makes a namespace, with a grant for all secrets whose names begin with it, whose operator has the rights that the
    /// chart gives by default, and no more.
    pub async fn with_default_rights(name: &str) -> Self {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("these tests need AWS: run `make test`");
        let world = Self::at(name, &endpoint, false).await;
        world.grant(&world.namespace.clone(), &["*"]).await;
        world
    }

    /// Makes a namespace, with a grant for all secrets whose names begin with it, in front of a Secrets Manager of its
    /// own, which is right where moto is wrong: dates and labels of versions, rotations.
    pub async fn with_stand_in(name: &str) -> (Self, StandIn) {
        let stand_in = StandIn::start(Options::default()).await;
        let world = Self::at(name, &stand_in.endpoint, features_are_on()).await;
        world.grant(&world.namespace.clone(), &["*"]).await;
        (world, stand_in)
    }

    async fn at(name: &str, endpoint: &str, features: bool) -> Self {
        let client = Client::try_default().await.expect("the tests need KUBECONFIG to name a cluster: run `make test`");
        install_crds(&client).await;
        let namespace = format!("{name}-{:06x}", fastrand::u32(..0x0100_0000));
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                annotations: Some(BTreeMap::from([("bindery.dev/run".to_owned(), "allowed".to_owned())])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .load()
            .await;
        let folder = std::env::temp_dir().join(format!("bindery-{namespace}"));
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            client,
            aws: aws_sdk_secretsmanager::Client::new(&config),
            proxy: AwsProxy::start(endpoint).await,
            kubeconfig: release::install(&format!("bindery-{namespace}"), &namespace, &folder, features),
            features,
            folder,
            namespace,
            values: Mutex::default(),
            kills: Kills::default(),
            audit_logs: Mutex::new(vec!["audit.jsonl".to_owned()]),
            audit_full: Mutex::default(),
        }
    }

    /// How this world's operator is started.
    pub fn setup(&self) -> Setup {
        Setup {
            folder: self.folder.clone(),
            namespaces: vec![self.namespace.clone()],
            home: self.namespace.clone(),
            name: format!("bindery-{}", self.namespace),
            aws_endpoint: self.proxy.endpoint.clone(),
            pod: "bindery-0".to_owned(),
            features: self.features,
            log_level: "trace",
            flags: vec![],
            kills: self.kills.clone(),
            without: vec![],
            variables: vec![("KUBECONFIG".to_owned(), self.kubeconfig.display().to_string())],
        }
    }

    /// Starts the operator.
    pub fn operator(&self) -> Operator {
        Operator::start(self.setup())
    }

    /// A proxy in front of the API server, for [`World::operator_through`].
    pub async fn api_proxy(&self) -> ApiProxy {
        ApiProxy::start(&self.kubeconfig, &self.folder).await
    }

    /// How an operator is started with a proxy between it and the API server.
    pub fn setup_through(&self, proxy: &ApiProxy) -> Setup {
        let mut setup = self.setup();
        setup.variables.push(("KUBECONFIG".to_owned(), proxy.kubeconfig.display().to_string()));
        setup
    }

    /// Starts the operator with these flags and a proxy between it and the API server.
    pub fn operator_through(&self, proxy: &ApiProxy, flags: &[&str]) -> Operator {
        let mut setup = self.setup_through(proxy);
        setup.flags.extend(flags.iter().map(ToString::to_string));
        Operator::start(setup)
    }

    /// The name in Secrets Manager of this world's secret `name`.
    pub fn secret_id(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    /// Creates or edits a grant for this namespace.
    pub async fn grant(&self, name: &str, globs: &[&str]) {
        let secrets: Vec<Value> =
            globs.iter().map(|glob| json!({"name": format!("{}/{glob}", self.namespace)})).collect();
        let grant = json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretGrant", "metadata": {"name": name},
            "spec": {"namespaces": {"names": [self.namespace]}, "secrets": secrets, "aws": {"region": "eu-west-1"}, "targetMetadata": ["team", "example.com/*"]},
        });
        let api: Api<SecretGrant> = Api::all(self.client.clone());
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&grant)).await.unwrap();
    }

    /// Creates or edits a grant as it is given.
    pub async fn grant_with(&self, name: &str, spec: Value) {
        self.try_grant(name, spec).await.unwrap();
    }

    /// The same where the API server may refuse it.
    pub async fn try_grant(&self, name: &str, spec: Value) -> Result<(), kube::Error> {
        let grant = json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretGrant", "metadata": {"name": name}, "spec": spec});
        let mut params = PatchParams::apply("test").force();
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        Api::<SecretGrant>::all(self.client.clone()).patch(name, &params, &Patch::Apply(&grant)).await.map(|_| ())
    }

    /// Deletes a grant.
    pub async fn delete_grant(&self, name: &str) {
        Api::<SecretGrant>::all(self.client.clone()).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Puts a text into Secrets Manager, as a new secret or a new version.
    pub async fn put_text(&self, name: &str, text: &str) {
        let id = self.secret_id(name);
        let created = self.aws.create_secret().name(&id).secret_string(text).send().await;
        if created.is_err() {
            self.aws.put_secret_value().secret_id(&id).secret_string(text).send().await.unwrap();
        }
        self.values.lock().unwrap().insert(text.to_owned());
    }

    /// Puts a JSON object into Secrets Manager.
    pub async fn put(&self, name: &str, object: &Value) {
        self.put_text(name, &object.to_string()).await;
        let mut values = self.values.lock().unwrap();
        for value in object.as_object().into_iter().flat_map(|object| object.values()) {
            values.extend(value.as_str().map(str::to_owned));
        }
    }

    /// Notes a value that was put into Secrets Manager by other means, so that a leak of it is found.
    pub fn note_value(&self, value: &str) {
        self.values.lock().unwrap().insert(value.to_owned());
    }

    /// Puts bytes into Secrets Manager.
    pub async fn put_binary(&self, name: &str, bytes: &[u8]) {
        let id = self.secret_id(name);
        self.aws.create_secret().name(&id).secret_binary(Blob::new(bytes)).send().await.unwrap();
    }

    /// Applies a binding by server-side apply.
    pub async fn bind(&self, name: &str, spec: Value) {
        self.try_bind(name, spec).await.unwrap();
    }

    /// Applies a binding, strictly as `kubectl apply` does.
    pub async fn try_bind(&self, name: &str, spec: Value) -> Result<(), kube::Error> {
        let binding = json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        let mut params = PatchParams::apply("test").force();
        params.field_validation = Some(kube::api::ValidationDirective::Strict);
        self.bindings().patch(name, &params, &Patch::Apply(&binding)).await.map(|_| ())
    }

    /// Annotates a binding.
    pub async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.bindings().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// The bindings of this world.
    pub fn bindings(&self) -> Api<SecretBinding> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Secrets of this world.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The data of a Secret as text; `None` where it does not exist.
    pub async fn data(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let secret = self.secrets().get_opt(name).await.unwrap()?;
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value.0))).collect())
    }

    /// A condition of a binding, as `status/reason`, with its message.
    pub async fn condition(&self, binding: &str, type_: &str) -> Option<(String, String)> {
        let status = self.bindings().get_opt(binding).await.unwrap()?.status?;
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == type_)?;
        Some((format!("{}/{}", condition.status, condition.reason), condition.message))
    }

    /// Waits for a condition of a binding and answers its message.
    pub async fn wait(&self, binding: &str, type_: &str, expected: &str) -> String {
        let limit = Duration::from_secs(90);
        let started = Instant::now();
        let mut last;
        loop {
            last = self.condition(binding, type_).await;
            match &last {
                Some((state, message)) if state == expected => return message.clone(),
                _ if started.elapsed() > limit => break,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let log = read_log(&self.folder, "operator.log");
        let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains("TRACE")).take(15).collect();
        panic!("waited {limit:?} for {type_}={expected} of {binding}, which is {last:?}; log:\n{}", tail.join("\n"));
    }

    /// Waits until a binding is published.
    pub async fn wait_ready(&self, binding: &str) {
        self.wait(binding, "Ready", "True/Published").await;
    }

    /// Waits until a key of a Secret has a value.
    pub async fn wait_value(&self, secret: &str, key: &str, value: &str) {
        let what = format!("{key} of {secret} to be as expected");
        eventually(&what, Duration::from_secs(60), || async {
            self.data(secret).await.filter(|data| data.get(key).map(String::as_str) == Some(value)).map(|_| ())
        })
        .await;
    }

    /// The Events about a binding, as `type/reason: note`.
    pub async fn events(&self, binding: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = api.list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(binding));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let text = |text: Option<String>| text.unwrap_or_default();
        events.into_iter().map(|e| format!("{}/{}: {}", text(e.type_), text(e.reason), text(e.note))).collect()
    }

    /// The audit records of the operator, one for each binding that a read served.
    pub fn audit(&self) -> Vec<Value> {
        let mut served = Vec::new();
        for record in self.records() {
            for one in record["served"].as_array().unwrap() {
                let mut flat = record.clone();
                let fields = flat.as_object_mut().unwrap();
                fields.remove("served");
                fields.extend(one.as_object().unwrap().clone());
                served.push(flat);
            }
        }
        served
    }

    /// The audit records of reads as they stand in the log, one for each value that AWS sent or may have sent.
    pub fn records(&self) -> Vec<Value> {
        self.of_kind("read")
    }

    /// The audit records of writes.
    pub fn writes(&self) -> Vec<Value> {
        self.of_kind("write")
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let logs = self.audit_logs.lock().unwrap().clone();
        let lines: Vec<String> = logs
            .iter()
            .flat_map(|log| read_log(&self.folder, log).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let records = lines.iter().map(|line| serde_json::from_str(line).expect("an audit log holds records only"));
        records.filter(|record: &Value| record["kind"] == kind).collect()
    }

    /// The audit logs of this world's operators, where they are not standard output.
    pub fn recorded_in(&self, logs: &[&str]) {
        *self.audit_logs.lock().unwrap() = logs.iter().map(ToString::to_string).collect();
    }

    /// From now on, until it is said otherwise, nothing can be recorded.
    pub fn audit_is_full(&self, full: bool) {
        let mut times = self.audit_full.lock().unwrap();
        if full {
            times.push((Instant::now(), None));
        } else {
            times.last_mut().unwrap().1 = Some(Instant::now());
        }
    }

    /// Each value that AWS sent has exactly one record, and each record is of a value that AWS sent. Only a value sent
    /// just before a kill, or while the log was full, may have none, since it came to nothing.
    fn compare_reads(&self) {
        let (calls, records) = (self.proxy.calls(), self.records());
        let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let mut recorded: BTreeMap<(String, String), usize> = BTreeMap::new();
        for record in records.iter().filter(|record| record["outcome"] == "read") {
            *recorded.entry((text(record, "requestId"), text(record, "secret"))).or_default() += 1;
        }
        let while_full = |at: Instant| {
            let times = self.audit_full.lock().unwrap();
            times.iter().any(|(from, to)| *from <= at && to.is_none_or(|to| at <= to))
        };
        // One request can carry the same value twice, where a secret is named in two ways.
        let mut take = |call: &Call, arn: &String| {
            let left = recorded.get_mut(&(call.request_id.clone(), arn.clone())).filter(|left| **left > 0);
            left.is_some_and(|left| {
                *left -= 1;
                true
            })
        };
        for call in calls.iter().filter(|call| call.sent == Sent::Value) {
            for arn in &call.values {
                assert!(
                    take(call, arn) || self.kills.explain(call.at) || while_full(call.at),
                    "no record of a value of {arn} that AWS sent with {}",
                    call.request_id
                );
            }
        }
        let uncertain: Vec<&Call> = calls.iter().filter(|call| call.sent == Sent::Uncertain).collect();
        // What is only slow may arrive after all, and is then recorded as read.
        let lost: Vec<&Call> =
            uncertain.into_iter().filter(|call| !call.values.iter().any(|arn| take(call, arn))).collect();
        recorded.retain(|_, left| *left > 0);
        assert!(recorded.is_empty(), "records of values that AWS never sent: {recorded:?}");
        let settled = Duration::from_secs(20);
        let certain = lost
            .iter()
            .filter(|call| call.at.elapsed() >= settled && !self.kills.explain(call.at) && !while_full(call.at));
        let (certain, unknown) =
            (certain.count(), records.iter().filter(|record| record["outcome"] == "unknown").count());
        assert!(
            (certain..=lost.len()).contains(&unknown),
            "{} answers that may not have arrived, {certain} of them long ago; {unknown} records",
            lost.len()
        );
    }

    /// Ends the world: no value may have left its path, and each read of a value must be on record.
    pub async fn end(self) {
        self.compare_reads();
        self.end_without_records().await;
    }

    /// The calls of this world's operator that the API server refused for want of a right.
    pub fn forbidden_calls(&self) -> Vec<String> {
        let user = format!("system:serviceaccount:{0}:bindery-{0}", self.namespace);
        let calls =
            release::calls_of(&user).into_iter().filter(|call| call.code == 403 && call.namespace == self.namespace);
        calls.map(|call| call.what).collect()
    }

    /// The same where the operators kept their records elsewhere.
    pub async fn end_without_records(self) {
        if !self.features {
            assert_eq!(self.forbidden_calls(), Vec::<String>::new(), "calls that the default rights do not allow");
        }
        let mut texts = vec![read_log(&self.folder, "operator.log"), read_log(&self.folder, "audit.jsonl")];
        for binding in self.bindings().list(&ListParams::default()).await.unwrap() {
            texts.push(serde_json::to_string(&binding.status).unwrap());
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        for event in events.list(&ListParams::default()).await.unwrap() {
            texts.push(serde_json::to_string(&event).unwrap());
        }
        let values = self.values.lock().unwrap().clone();
        for text in &texts {
            assert!(!text.contains(CANARY), "a canary left its path: {}", around(text, CANARY));
            for value in values.iter().filter(|value| value.len() >= 8) {
                assert!(!text.contains(value.as_str()), "a value left its path: {}", around(text, value));
                let encoded = STANDARD.encode(value);
                assert!(!text.contains(&encoded), "a value left its path in Base64: {}", around(text, &encoded));
            }
        }
        release::uninstall(&format!("bindery-{}", self.namespace));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        // A test may have deleted it already.
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
        let grants: Api<SecretGrant> = Api::all(self.client.clone());
        let _ = grants.delete(&self.namespace, &DeleteParams::default()).await;
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Whether worlds have the rights for what is off by default. They have, unless this says otherwise.
fn features_are_on() -> bool {
    std::env::var_os(DEFAULT_RIGHTS).is_none()
}

fn around<'a>(text: &'a str, found: &str) -> &'a str {
    let at = text.find(found).unwrap_or_default();
    let start = (0..=at.saturating_sub(300)).rev().find(|start| text.is_char_boundary(*start)).unwrap_or_default();
    &text[start..at]
}

/// Applies the CRDs as users do, from `crds/`, and waits until they are served.
async fn install_crds(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::runtime::{conditions, wait::await_condition};
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in bindery::api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
    }
}
