//! With AWS's permissions enforced: the operator works with exactly the policies that `deploy/aws/policies` ships, and
//! who is not meant gets nothing, whatever a binding or a careless grant says.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::publishing::guide;
use crate::support::iam::gate::lookup_in_moto;
use crate::support::iam::shipped::shipped;
use crate::support::iam::token::{Provider, PublicKey};
use crate::support::iam::world::tags;
use crate::support::iam::{Gate, IamWorld, Role};
use crate::support::operator::Setup;
use crate::support::world::CANARY;
use crate::support::{Operator, World, eventually};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// What an administrator fills in so that a role may read one secret.
fn read_policy(secret: &str) -> String {
    let values = [("REGION", REGION), ("ACCOUNT_ID", ACCOUNT), ("SECRET_NAME", secret), ("KEY_ID", "0000")];
    shipped("read.json", &values)
}

/// The operator's role, and a reader for the secret `app` of a namespace, with the shipped trust and policies.
fn account(namespace: &str) -> IamWorld {
    let mut iam = IamWorld::new();
    let values = [("REGION", REGION), ("ACCOUNT_ID", ACCOUNT), ("CLUSTER_NAME", "test")];
    let trust = shipped("operator-trust-pod-identity.json", &values);
    let assume = shipped("operator-assume-readers.json", &[("ACCOUNT_ID", ACCOUNT), ("READER_ROLE", "reader-*")]);
    iam.add_role(Role::new(&role("bindery"), &trust).unwrap().policy("assume", &assume).unwrap());
    let values = [("ACCOUNT_ID", ACCOUNT), ("OPERATOR_ROLE", "bindery"), ("NAMESPACE", namespace)];
    let reader = Role::new(&role("reader-app"), &shipped("reader-trust.json", &values)).unwrap();
    iam.add_role(reader.policy("read", &read_policy(&format!("{namespace}/app"))).unwrap());
    iam
}

/// Enforces the permissions and answers the credentials that EKS Pod Identity would hand to the operator's pod.
fn enforce(world: &World, mut iam: IamWorld) -> (Gate, Setup) {
    let cluster = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/test");
    let given = tags([
        ("eks-cluster-arn", cluster.as_str()),
        ("kubernetes-namespace", "bindery-system"),
        ("kubernetes-service-account", "bindery"),
    ]);
    let (key, token) = ("ASIAOPERATOR00000001", "session-token-of-the-operator");
    iam.start_pod_session(&role("bindery"), (key, token), SystemTime::now(), &given).unwrap();
    let gate = Gate::new(iam, lookup_in_moto(&std::env::var("AWS_ENDPOINT_URL").unwrap()));
    world.proxy.enforce(gate.clone());
    let mut setup = world.setup();
    for (name, value) in [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", "unused"), ("AWS_SESSION_TOKEN", token)]
    {
        setup.variables.push((name.to_owned(), value.to_owned()));
    }
    (gate, setup)
}

/// A grant by role for this world's namespace that allows whatever the role may read.
async fn careless_grant(world: &World, aws: Value) {
    let spec = json!({"namespaces": {"names": [world.namespace]}, "secrets": [{"name": "*"}], "aws": aws});
    world.grant_with(&world.namespace, spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_works_with_exactly_the_shipped_policies() {
    let world = World::without_grant("shipped").await;
    world.put("app", &guide()).await;
    let (gate, setup) = enforce(&world, account(&world.namespace));
    careless_grant(&world, json!({"region": REGION, "roleArn": role("reader-app"), "sessionTags": true})).await;
    let _operator = Operator::start(setup);
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    eventually("a look at the version", Duration::from_secs(60), || async {
        (world.proxy.count("DescribeSecret") > 0).then_some(())
    })
    .await;
    let mut payload = guide();
    payload["S3_BUCKET"] = json!(format!("{CANARY}-rotated"));
    world.put("app", &payload).await;
    world.wait_value("app", "S3_BUCKET", &format!("{CANARY}-rotated")).await;

    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/reader-app/bindery-{}", world.namespace);
    let record = gate.record();
    assert!(record.iter().all(|judged| judged.decision.is_allowed()), "{record:?}");
    let readers: Vec<&str> = record
        .iter()
        .filter(|judged| judged.action == "secretsmanager:GetSecretValue")
        .map(|judged| judged.principal.as_str())
        .collect();
    assert_eq!(readers, [session.as_str(), session.as_str()], "AWS sees the namespace in the name of the session");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_reads_by_a_token_that_aws_can_verify_and_no_other_does() {
    let world = World::without_grant("web-identity").await;
    world.put("app", &guide()).await;
    let mut iam = account(&world.namespace);
    let folder = std::env::var("BINDERY_TEST_CLUSTER").expect("the key of the cluster of `make test` is needed");
    let key = std::fs::read_to_string(std::path::Path::new(&folder).join("sa.pub")).unwrap();
    let provider = ISSUER.strip_prefix("https://").unwrap();
    iam.add_provider(Provider {
        arn: format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"),
        issuer: ISSUER.to_owned(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        keys: vec![PublicKey::from_pem(&key)],
    });
    let values = [
        ("ACCOUNT_ID", ACCOUNT),
        ("OIDC_PROVIDER", provider),
        ("NAMESPACE", world.namespace.as_str()),
        ("SERVICE_ACCOUNT", "reader"),
    ];
    let reader = Role::new(&role("by-token"), &shipped("reader-trust-service-account.json", &values)).unwrap();
    iam.add_role(reader.policy("read", &read_policy(&world.secret_id("app"))).unwrap());
    let (gate, setup) = enforce(&world, iam);
    let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    for name in ["reader", "other"] {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "annotations": {"eks.amazonaws.com/role-arn": role("by-token")}},
        });
        accounts.patch(name, &kube::api::PatchParams::apply("test"), &kube::api::Patch::Apply(&account)).await.unwrap();
        let spec = json!({
            "namespaces": {"names": [world.namespace]}, "secrets": [{"name": "*"}],
            "aws": {"region": REGION, "accountId": ACCOUNT, "serviceAccountName": name},
        });
        world.grant_with(&format!("{}-{name}", world.namespace), spec).await;
    }
    let _operator = Operator::start(setup);
    for name in ["reader", "other"] {
        let grant = format!("{}-{name}", world.namespace);
        world.bind(name, json!({"grant": grant, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    }
    world.wait_ready("reader").await;
    let message = world.wait("other", "Fetched", "False/CredentialsFailed").await;
    assert!(message.contains("AccessDenied"), "{message}");
    assert!(world.data("other").await.is_none());
    let read = gate.record().iter().filter(|judged| judged.action == "secretsmanager:GetSecretValue").count();
    assert_eq!(read, 1);
    for name in ["reader", "other"] {
        world.delete_grant(&format!("{}-{name}", world.namespace)).await;
    }
    world.end().await;
}

/// Whoever writes bindings in staging, with a grant that by mistake allows everything, tries to get what is
/// production's. AWS knows staging's role and refuses; nothing that a binding can say changes the role.
#[tokio::test(flavor = "multi_thread")]
async fn a_staging_identity_gets_no_secret_of_production_by_any_trick() {
    let world = World::without_grant("staging").await;
    world.put("app", &guide()).await;
    let production = format!("production-of-{}", world.namespace);
    let other = format!("{production}/app");
    let created = world
        .aws
        .create_secret()
        .name(&other)
        .secret_string(format!("{{\"KEY\": \"{CANARY}\"}}"))
        .send()
        .await
        .unwrap();
    let (arn, version) = (created.arn().unwrap().to_owned(), created.version_id().unwrap().to_owned());
    let look_alike = world.secret_id("app-AbCdEf");
    world.put("app-AbCdEf", &json!({"KEY": format!("{CANARY}-look-alike")})).await;
    let values = [("ACCOUNT_ID", ACCOUNT), ("READER_ROLE", "reader-production"), ("BREAK_GLASS_ROLE", "break-glass")];
    world
        .aws
        .put_resource_policy()
        .secret_id(&other)
        .resource_policy(shipped("secret-guard.json", &values))
        .send()
        .await
        .unwrap();
    let (gate, setup) = enforce(&world, account(&world.namespace));
    careless_grant(
        &world,
        json!({"region": REGION, "accountId": ACCOUNT, "roleArn": role("reader-app"), "sessionTags": true}),
    )
    .await;
    let _operator = Operator::start(setup);
    // The honest use works.
    world.bind("honest", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("honest").await;

    let partial = arn.rsplit_once('-').unwrap().0.to_owned();
    let one = |value_from: String| json!({"data": [{"key": "K", "valueFrom": value_from}]});
    let tricks: Vec<(&str, Value)> = vec![
        ("by name", json!({"dataFrom": [{"secret": other}]})),
        ("by full ARN", json!({"dataFrom": [{"secret": arn}]})),
        ("by partial ARN", json!({"dataFrom": [{"secret": partial}]})),
        ("one key in the ECS form", one(format!("{other}:KEY::"))),
        ("one key in the ECS form by ARN", one(format!("{arn}:KEY::"))),
        ("the whole payload", one(other.clone())),
        ("a version by its id", json!({"dataFrom": [{"secret": other, "versionId": version}]})),
        ("a version in the ECS form", one(format!("{other}:KEY::{version}"))),
        ("the previous version", json!({"dataFrom": [{"secret": other, "versionStage": "AWSPREVIOUS"}]})),
        ("the pending version", json!({"dataFrom": [{"secret": other, "versionStage": "AWSPENDING"}]})),
        ("beside an allowed secret", json!({"dataFrom": [{"secret": world.secret_id("app")}, {"secret": other}]})),
        (
            "optional",
            json!({"data": [
                {"key": "A", "valueFrom": format!("{}:S3_BUCKET::", world.secret_id("app"))},
                {"key": "K", "from": {"secret": other, "key": "KEY"}, "optional": true},
            ]}),
        ),
        (
            "through a template",
            json!({
                "dataFrom": [{"secret": other, "include": ["NOTHING"]}], "target": {"template": {"K": "{{ bindery.keys | dotenv }}"}},
            }),
        ),
        ("a name with a climb", json!({"dataFrom": [{"secret": format!("{}/../{other}", world.namespace)}]})),
        ("a name in another case", json!({"dataFrom": [{"secret": other.to_uppercase()}]})),
        ("a name with the random suffix", json!({"dataFrom": [{"secret": arn.splitn(7, ':').nth(6).unwrap()}]})),
        ("a look-alike of the allowed secret", json!({"dataFrom": [{"secret": look_alike}]})),
        (
            "a look-alike by ARN",
            json!({"dataFrom": [{"secret": format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{look_alike}")}]}),
        ),
    ];
    let count = tricks.len();
    for (index, (_, spec)) in tricks.iter().enumerate() {
        world.bind(&format!("trick{index}"), spec.clone()).await;
    }
    for (index, (trick, _)) in tricks.iter().enumerate() {
        let name = format!("trick{index}");
        eventually(&format!("a verdict on: {trick}"), Duration::from_secs(60), || async {
            let (ready, _) = world.condition(&name, "Ready").await?;
            assert!(!ready.starts_with("True"), "{trick} was published");
            Some(())
        })
        .await;
        assert!(world.data(&name).await.is_none(), "{trick}");
        println!("refused: {trick}: {}", world.condition(&name, "Ready").await.unwrap().0);
    }
    let readable: Vec<String> = gate
        .record()
        .into_iter()
        .filter(|judged| judged.action == "secretsmanager:GetSecretValue" && judged.decision.is_allowed())
        .map(|judged| judged.resource)
        .collect();
    assert!(
        !readable.is_empty() && readable.iter().all(|secret| secret.contains(&world.secret_id("app"))),
        "{readable:?}"
    );
    println!("{count} tricks tried, none of them got a value");
    world.end().await;
}
