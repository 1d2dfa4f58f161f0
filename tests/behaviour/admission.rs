//! What the API server refuses at `kubectl apply`, and how it says so.

use serde_json::json;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn bad_manifests_are_refused_with_a_sentence() {
    let world = World::without_grant("refused").await;
    let good = json!({"secret": "a/b"});
    for (spec, sentence) in [
        (json!({"dataFrom": [good], "sources": []}), "field not declared in schema"),
        (json!({}), "nothing to publish: give at least one entry under dataFrom or data"),
        (json!({"dataFrom": [], "data": []}), "nothing to publish"),
        (json!({"dataFrom": [{"secret": "a b"}]}), "not a Secrets Manager name"),
        (json!({"dataFrom": [{"secret": "arn:aws:s3:::bucket"}]}), "not a Secrets Manager name"),
        (json!({"dataFrom": [{"secret": "a", "versionStage": "X", "versionId": "0123456789abcdef0123456789abcdef"}]}), "versionStage or versionId, not both"),
        (json!({"data": [{"key": "A"}]}), "exactly one of valueFrom and from"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b", "from": good}]}), "exactly one of valueFrom and from"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b:c:d:e"}]}), "not a reference of the form"),
        (json!({"data": [{"key": "A B", "valueFrom": "a:b"}]}), "spec.data[0].key"),
        (json!({"data": [{"key": "A", "valueFrom": "a:b"}, {"key": "A", "valueFrom": "a:c"}]}), "duplicate"),
        (json!({"dataFrom": [good], "refreshInterval": "soon"}), "refreshInterval"),
        (json!({"dataFrom": [good], "refreshInterval": "9s"}), "0s (never by the clock) or at least 10s"),
        (json!({"dataFrom": [good], "refreshInterval": "0m"}), "0s (never by the clock) or at least 10s"),
        (json!({"dataFrom": [good], "target": {"adopt": true}}), "adopt needs deletionPolicy: Retain"),
        (json!({"dataFrom": [good], "target": {"type": "kubernetes.io/service-account-token"}}), "cannot be published from AWS"),
        (json!({"dataFrom": [good], "target": {"deletionPolicy": "Keep"}}), "Retain"),
        (json!({"dataFrom": [good], "target": {"name": "Worker_Env"}}), "spec.target.name"),
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
    ] {
        world.try_bind("accepted", spec.clone()).await.unwrap_or_else(|error| panic!("refused: {spec}: {error}"));
    }
    world.end().await;
}
