//! What the API server refuses at `kubectl apply`, and how it says so.

use serde_json::json;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn bad_manifests_are_refused_with_a_sentence() {
    let world = World::without_grant("refused").await;
    let (good, long) = (json!({"secret": "a/b"}), "x".repeat(16_384));
    for (spec, sentence) in [
        (json!({"dataFrom": [good], "sources": []}), "field not declared in schema"),
        (json!({}), "nothing to publish: give at least one entry under dataFrom or data"),
        (json!({"dataFrom": [], "data": []}), "nothing to publish"),
        (json!({"dataFrom": [{"secret": "a b"}]}), "not a Secrets Manager name"),
        (json!({"dataFrom": [{"secret": "arn:aws:s3:::bucket"}]}), "not a Secrets Manager name"),
        (
            json!({"dataFrom": [{"secret": "a", "versionStage": "X", "versionId": "0123456789abcdef0123456789abcdef"}]}),
            "versionStage or versionId, not both",
        ),
        (json!({"data": [{"key": "A"}]}), "exactly one of valueFrom and from"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b", "from": good}]}), "exactly one of valueFrom and from"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b:c:d:e"}]}), "not a reference of the form"),
        (json!({"data": [{"key": "A B", "valueFrom": "a:b"}]}), "spec.data[0].key"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b"}, {"key": "A", "valueFrom": "a:c"}]}), "duplicate"),
        (json!({"dataFrom": [good], "refreshInterval": "soon"}), "refreshInterval"),
        (json!({"dataFrom": [good], "refreshInterval": "9s"}), "0s (never by the clock) or at least 10s"),
        (json!({"dataFrom": [good], "refreshInterval": "0m"}), "0s (never by the clock) or at least 10s"),
        (json!({"dataFrom": [good], "target": {"adopt": true}}), "adopt needs deletionPolicy: Retain"),
        (
            json!({"dataFrom": [good], "target": {"type": "kubernetes.io/service-account-token"}}),
            "cannot be published from AWS",
        ),
        (json!({"dataFrom": [good], "target": {"deletionPolicy": "Keep"}}), "Retain"),
        (json!({"dataFrom": [good], "target": {"name": "Worker_Env"}}), "spec.target.name"),
        (
            json!({"dataFrom": [good], "target": {"name": "sh.helm.release.v1.web.v3"}}),
            "Helm or Terraform takes a Secret",
        ),
        (json!({"dataFrom": [good], "target": {"name": "tfstate-default-web"}}), "Helm or Terraform takes a Secret"),
        (
            json!({"dataFrom": [good], "target": {"template": {"A": long, "B": long, "C": long, "D": long, "E": "x"}}}),
            "the templates have more than 65536 characters together",
        ),
        (json!({"dataFrom": [good], "target": {"labels": {"owner": "helm"}}}), "the labels owner: helm and tfstate"),
        (json!({"dataFrom": [good], "target": {"labels": {"tfstate": "true"}}}), "the labels owner: helm and tfstate"),
    ] {
        let refused = world.try_bind("refused", spec.clone()).await;
        let message = refused.err().unwrap_or_else(|| panic!("accepted: {spec}")).to_string();
        assert!(message.to_lowercase().contains(&sentence.to_lowercase()), "{spec}: {message}");
    }
    for spec in [
        json!({"dataFrom": [good], "refreshInterval": "0s"}),
        json!({"dataFrom": [good], "refreshInterval": "10s"}),
        json!({"dataFrom": [good], "refreshInterval": "1d12h"}),
        json!({"data": [{"key": "A", "valueFrom": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/b-AbCdEf:K::"}]}),
        json!({"data": [{"key": "A", "valueFrom": "a/b"}]}),
        json!({"dataFrom": [good], "target": {"template": {"A": long, "B": long, "C": long, "D": long}}}),
    ] {
        world.try_bind("accepted", spec.clone()).await.unwrap_or_else(|error| panic!("refused: {spec}: {error}"));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rules_and_restarts_are_refused_with_a_sentence_and_good_ones_are_taken() {
    let world = World::without_grant("rules").await;
    let spec = |rules: serde_json::Value, more: serde_json::Value| {
        let mut spec = json!({"dataFrom": [{"secret": "a/b"}], "rotation": rules});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let rule = |edit: serde_json::Value| {
        let mut rule = json!({"name": "r", "keys": ["A"]});
        rule.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        spec(json!([rule]), json!({}))
    };
    let restart = |restart: serde_json::Value| spec(json!([]), json!({"restart": restart}));
    let staged = json!([{"name": "r", "keys": ["A"], "overlap": {"strategy": "Staged", "hold": "1d"}}]);
    let one = json!([{"kind": "Deployment", "name": "worker"}]);
    for (spec, sentence) in [
        (rule(json!({"every": "7d", "schedule": "0 9 * * MON"})), "give every or schedule, not both"),
        (rule(json!({"every": "7d", "timeZone": "UTC"})), "timeZone belongs to schedule"),
        (rule(json!({"action": "RotateSecret"})), "an action needs a clock"),
        (rule(json!({"every": "7d", "action": "RunJob"})), "RunJob and runJob belong together"),
        (rule(json!({"every": "7d", "runJob": {"cronJob": "j"}})), "RunJob and runJob belong together"),
        (rule(json!({"every": "7d", "generate": {"bytes": 32}})), "generate belongs to action: Generate"),
        (
            rule(json!({"keys": ["A", "B"], "overlap": {"strategy": "Immediate", "hold": "1d"}})),
            "overlap is for one key",
        ),
        (
            rule(json!({"overlap": {"strategy": "Immediate", "hold": "1d", "nextKey": "B"}})),
            "belong to strategy: Staged",
        ),
        (rule(json!({"every": "weekly"})), "every"),
        (rule(json!({"warnBefore": "1w"})), "warnBefore"),
        (rule(json!({"keys": []})), "keys"),
        (rule(json!({"keys": ["A", "A"]})), "duplicate"),
        (rule(json!({"keys": ["A B"]})), "keys"),
        (rule(json!({"name": "R"})), "name"),
        (rule(json!({"every": "7d", "action": "Rotate"})), "action"),
        (rule(json!({"every": "7d", "action": "Generate", "generate": {"bytes": 8}})), "bytes"),
        (spec(json!([{"name": "r", "keys": ["A"]}, {"name": "r", "keys": ["B"]}]), json!({})), "duplicate"),
        (spec(staged.clone(), json!({})), "needs pods that are restarted"),
        (spec(staged.clone(), json!({"restart": {"policy": "Never"}})), "needs pods that are restarted"),
        (
            spec(
                staged.clone(),
                json!({"restart": {"policy": "Consumers"}, "target": {"template": {"X": "x"}, "templateOnly": true}}),
            ),
            "templateOnly does not allow",
        ),
        (restart(json!({"policy": "Listed"})), "policy: Listed and workloads belong together"),
        (restart(json!({"policy": "Consumers", "workloads": one})), "policy: Listed and workloads belong together"),
        (
            restart(json!({"policy": "Listed", "workloads": [{"kind": "Job", "name": "x"}]})),
            "Unsupported value: \"Job\"",
        ),
    ] {
        let refused = world.try_bind("refused", spec.clone()).await;
        let message = refused.err().unwrap_or_else(|| panic!("accepted: {spec}")).to_string();
        assert!(message.to_lowercase().contains(&sentence.to_lowercase()), "{spec}: {message}");
    }
    for spec in [
        rule(json!({})),
        rule(json!({"every": "7d", "warnBefore": "1d", "contact": {"name": "x"}, "notAfter": "2026-12-01T00:00:00Z"})),
        rule(json!({"schedule": "0 9 * * MON", "timeZone": "Europe/Berlin", "action": "RotateSecret"})),
        rule(json!({"every": "7d", "action": "RunJob", "runJob": {"cronJob": "j"}})),
        rule(json!({"every": "90d", "action": "Generate", "generate": {"bytes": 32, "encoding": "Hex"}})),
        rule(json!({"overlap": {"strategy": "Immediate", "hold": "1d", "previousKey": "B"}})),
        spec(staged, json!({"restart": {"policy": "Consumers"}})),
        restart(json!({"policy": "Listed", "workloads": one})),
        restart(json!({"policy": "Consumers", "window": {"schedule": "0 2 * * *", "duration": "3h"}})),
    ] {
        world.try_bind("accepted", spec.clone()).await.unwrap_or_else(|error| panic!("refused: {spec}: {error}"));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_grants_are_refused_with_a_sentence() {
    let world = World::without_grant("refused-grant").await;
    let base = json!({"namespaces": {"names": ["n"]}, "secrets": [{"name": "a/*"}]});
    let with = |edit: serde_json::Value| {
        let mut spec = base.clone();
        spec.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        spec
    };
    let role = "arn:aws:iam::123456789012:role/r";
    for (spec, sentence) in [
        (with(json!({"namespaces": {}})), "exactly one of names and selector"),
        (
            with(json!({"namespaces": {"names": ["n"], "selector": {"matchLabels": {"a": "b"}}}})),
            "exactly one of names and selector",
        ),
        (with(json!({"namespaces": {"selector": {}}})), "an empty selector would mean every namespace"),
        (with(json!({"namespaces": {"names": []}})), "spec.namespaces.names"),
        (with(json!({"secrets": []})), "spec.secrets"),
        (with(json!({"secrets": [{"name": "a b"}]})), "not a glob over names"),
        (with(json!({"secrets": [{"name": "a-??????"}]})), "leave out the trailing"),
        (with(json!({"secrets": [{"name": "a/{namespace}x"}]})), "{namespace} must be followed by /"),
        (with(json!({"secrets": [{"name": "a/{namespace}*"}]})), "{namespace} must be followed by /"),
        (with(json!({"secrets": [{"name": "a/{name}"}]})), "not a glob over names"),
        (with(json!({"expiresAt": "2030-01-01T00:00:00Z"})), "add spec.reason"),
        (with(json!({"onExpiry": "Delete"})), "onExpiry needs expiresAt"),
        (
            with(json!({"rotation": [{"action": "Generate", "secrets": ["a/b"], "keys": ["KEY_*"]}]})),
            "name each of them, without wildcards",
        ),
        (
            with(json!({"rotation": [{"action": "RotateSecret", "secrets": ["a/b"], "keys": ["KEY"]}]})),
            "RotateSecret replaces the whole secret",
        ),
        (with(json!({"aws": {"serviceAccountName": "a"}})), "serviceAccountName needs accountId"),
        (with(json!({"aws": {"externalId": "abc"}})), "externalId needs roleArn"),
        (
            with(
                json!({"aws": {"externalId": "abc", "roleArn": role, "serviceAccountName": "a", "accountId": "123456789012"}}),
            ),
            "externalId needs roleArn, and cannot be used with serviceAccountName",
        ),
        (with(json!({"aws": {"sessionTags": true}})), "sessionTags need roleArn"),
        (with(json!({"aws": {"endpoint": "https://elsewhere"}})), "field not declared in schema"),
        (with(json!({"aws": {"roleArn": "arn:aws:iam::1:user/u"}})), "spec.aws.roleArn"),
    ] {
        let refused = world.try_grant(&world.namespace, spec.clone()).await;
        let message = refused.err().unwrap_or_else(|| panic!("accepted: {spec}")).to_string();
        assert!(message.to_lowercase().contains(&sentence.to_lowercase()), "{spec}: {message}");
    }
    for spec in [
        with(json!({"secrets": [{"name": "a/{namespace}/*", "keys": ["*"]}, {"name": "b/{namespace}"}]})),
        with(json!({"namespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}})),
        with(json!({"rotation": [{"action": "Generate", "secrets": ["a/*"], "keys": ["KEY"]}]})),
        with(json!({"expiresAt": "2030-01-01T00:00:00Z", "reason": "INC-1", "onExpiry": "Keep"})),
        with(json!({"aws": {"roleArn": role, "externalId": "abc", "sessionTags": true}})),
    ] {
        world
            .try_grant(&world.namespace, spec.clone())
            .await
            .unwrap_or_else(|error| panic!("refused: {spec}: {error}"));
    }
    world.end().await;
}
