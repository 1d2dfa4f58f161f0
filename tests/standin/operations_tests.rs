//! What the SDK cannot bring about, or a mock of AWS cannot show.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::store::Store;
use super::*;

const START: SystemTime = SystemTime::UNIX_EPOCH;

struct World {
    store: Store,
    faults: Faults,
    options: Options,
    now: SystemTime,
}

impl World {
    fn new() -> Self {
        let options = Options::default();
        let store = Store::new(&options.account, &options.region);
        Self { store, faults: Faults::default(), options, now: START }
    }

    fn call(&mut self, operation: &str, body: &Value) -> Result<Value, Refusal> {
        let Self { store, faults, options, now } = self;
        carry_out(&mut Service { store, faults, options, now: *now }, operation, body).map(|done| done.body)
    }

    /// The error of a call that must fail.
    fn refusal(&mut self, operation: &str, body: &Value) -> (String, String) {
        let refusal = self.call(operation, body).unwrap_err();
        (refusal.code.into_owned(), refusal.message)
    }

    fn put(&mut self, name: &str, text: &str) {
        let token = self.store.uuid();
        let create = json!({"Name": name, "SecretString": text, "ClientRequestToken": token});
        let put = json!({"SecretId": name, "SecretString": text, "ClientRequestToken": token});
        if self.call("CreateSecret", &create).is_err() {
            self.call("PutSecretValue", &put).unwrap();
        }
    }
}

#[test]
fn a_write_without_a_token_is_refused() {
    let mut world = World::new();
    world.put("app", "a");
    for (operation, code) in [
        ("CreateSecret", "InvalidRequestException"),
        ("PutSecretValue", "InvalidRequestException"),
        ("UpdateSecret", "InvalidRequestException"),
        ("RotateSecret", "InvalidParameterException"),
    ] {
        let (found, message) = world.refusal(operation, &json!({"Name": "b", "SecretId": "app", "SecretString": "b"}));
        assert_eq!((found.as_str(), &message[..37]), (code, "You must provide a ClientRequestToken"), "{operation}");
    }
}

#[test]
fn a_fault_is_the_secrets_own_in_a_batch() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "2");
    let arn = world.call("DescribeSecret", &json!({"SecretId": "b"})).unwrap()["ARN"].clone();
    world.faults.fail("b", "DecryptionFailure", "no key");
    assert_eq!(world.refusal("GetSecretValue", &json!({"SecretId": arn})).0, "DecryptionFailure");
    let answer = world.call("BatchGetSecretValue", &json!({"SecretIdList": ["a", arn]})).unwrap();
    assert_eq!(answer["SecretValues"][0]["SecretString"], "1");
    assert_eq!(answer["Errors"], json!([{"SecretId": arn, "ErrorCode": "DecryptionFailure", "Message": "no key"}]));
    assert!(world.call("DescribeSecret", &json!({"SecretId": "b"})).is_ok());
}

#[test]
fn what_iam_does_not_allow_is_denied_in_its_words() {
    let mut world = World::new();
    world.put("app", "a");
    let arn = world.call("DescribeSecret", &json!({"SecretId": "app"})).unwrap()["ARN"].as_str().unwrap().to_owned();
    (world.options.batch_allowed, world.options.list_allowed, world.options.describe_allowed) = (false, false, false);
    for (operation, on) in [
        ("BatchGetSecretValue", String::new()),
        ("ListSecrets", String::new()),
        ("DescribeSecret", format!(" on resource: {arn}")),
    ] {
        let body = if operation == "DescribeSecret" { json!({"SecretId": "app"}) } else { json!({}) };
        let (code, message) = world.refusal(operation, &body);
        assert_eq!(code, "AccessDeniedException");
        assert_eq!(
            message,
            format!(
                "User: arn:aws:sts::123456789012:assumed-role/standin/session is not authorized to perform: \
                 secretsmanager:{operation}{on} because no identity-based policy allows the secretsmanager:{operation} \
                 action"
            )
        );
    }
    assert!(world.call("GetSecretValue", &json!({"SecretId": "app"})).is_ok());
}

#[test]
fn the_list_lags_and_the_description_does_not() {
    let mut world = World::new();
    world.options.list_lag = Duration::from_secs(300);
    world.put("app", "a");
    let stages = |world: &mut World| {
        let list = world.call("ListSecrets", &json!({})).unwrap();
        list["SecretList"][0]["SecretVersionsToStages"].clone()
    };
    assert_eq!(stages(&mut world), Value::Null, "not there yet");
    world.now = START + Duration::from_secs(299);
    world.put("app", "b");
    assert_eq!(stages(&mut world), Value::Null);
    let described = |world: &mut World| world.call("DescribeSecret", &json!({"SecretId": "app"})).unwrap();
    assert_eq!(described(&mut world)["VersionIdsToStages"].as_object().unwrap().len(), 2);
    world.now = START + Duration::from_secs(300);
    assert_eq!(stages(&mut world).as_object().unwrap().len(), 1);
    world.now = START + Duration::from_secs(599);
    assert_eq!(stages(&mut world), described(&mut world)["VersionIdsToStages"]);
}

#[test]
fn malformed_parameters_are_refused() {
    let mut world = World::new();
    world.put("app", "a");
    let long = "x".repeat(65_537);
    let token = "1".repeat(32);
    for (operation, body, code) in [
        ("GetSecretValue", json!({}), "ValidationException"),
        ("GetSecretValue", json!({"SecretId": 1}), "SerializationException"),
        ("GetSecretValue", json!({"SecretId": "app", "VersionId": "short"}), "ValidationException"),
        ("GetSecretValue", json!({"SecretId": "not a name"}), "ValidationException"),
        ("BatchGetSecretValue", json!({"SecretIdList": []}), "ValidationException"),
        ("BatchGetSecretValue", json!({"SecretIdList": ["app"], "MaxResults": 1}), "InvalidParameterException"),
        ("ListSecrets", json!({"MaxResults": 0}), "ValidationException"),
        ("ListSecrets", json!({"NextToken": "MTA"}), "InvalidNextTokenException"),
        ("ListSecrets", json!({"SortBy": "name"}), "NotModelled"),
        (
            "PutSecretValue",
            json!({"SecretId": "app", "SecretString": long, "ClientRequestToken": token}),
            "ValidationException",
        ),
        (
            "PutSecretValue",
            json!({"SecretId": "app", "SecretString": "a", "SecretBinary": "YQ==", "ClientRequestToken": token}),
            "InvalidParameterException",
        ),
        ("TagResource", json!({"SecretId": "app"}), "NotModelled"),
        ("", json!({}), "UnknownOperationException"),
    ] {
        let shown: String = body.to_string().chars().take(60).collect();
        assert_eq!(world.refusal(operation, &body).0, code, "{operation} {shown}");
    }
}

#[test]
fn the_versions_come_in_pages_too() {
    let mut world = World::new();
    for number in 0..5 {
        world.put("app", &number.to_string());
    }
    let (mut seen, mut token) = (0, Value::Null);
    loop {
        let mut body = json!({"SecretId": "app", "IncludeDeprecated": true, "MaxResults": 2});
        if token.is_string() {
            body["NextToken"] = token;
        }
        let page = world.call("ListSecretVersionIds", &body).unwrap();
        seen += page["Versions"].as_array().unwrap().len();
        token = page["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(seen, 5);
    let labelled = world.call("ListSecretVersionIds", &json!({"SecretId": "app"})).unwrap();
    assert_eq!(labelled["Versions"].as_array().unwrap().len(), 2);
}

#[test]
fn a_refused_rotation_leaves_its_configuration_as_it_was() {
    let mut world = World::new();
    world.put("app", "a");
    let rotate = |token: &str, days: u32| {
        json!({"SecretId": "app", "RotationLambdaARN": "arn:aws:lambda", "ClientRequestToken": token.repeat(32),
               "RotationRules": {"AutomaticallyAfterDays": days}})
    };
    world.call("RotateSecret", &rotate("1", 10)).unwrap();
    assert_eq!(world.refusal("RotateSecret", &rotate("2", 20)).0, "InvalidRequestException");
    let described = world.call("DescribeSecret", &json!({"SecretId": "app"})).unwrap();
    assert_eq!(described["RotationRules"]["AutomaticallyAfterDays"], 10);
    assert_eq!(described["NextRotationDate"], json!(864_000.0));
    assert_eq!(described["VersionIdsToStages"]["1".repeat(32)], json!(["AWSPENDING"]));
}
