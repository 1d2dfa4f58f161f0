//! Deny by default.

use std::time::Duration;

use bindery::api::SecretGrant;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::publishing::guide;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_nothing_is_read_and_with_one_it_is_at_once() {
    let world = World::without_grant("denied").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("app", "Granted", "False/AccessDenied").await;
    assert!(message.contains(&world.namespace) && message.contains(&world.secret_id("app")), "{message}");
    world.wait("app", "Ready", "False/AccessDenied").await;
    assert_eq!(world.condition("app", "Fetched").await.unwrap().0, "Unknown/NotEvaluated");
    assert!(world.data("app").await.is_none());
    assert_eq!(world.proxy.calls(), [], "no call reaches AWS");

    world.grant(&world.namespace.clone(), &["ap?"]).await;
    world.wait_ready("app").await;
    assert!(world.data("app").await.is_some());

    // The grant is narrowed: the Secret stays, the binding says so, and no further read takes place.
    world.grant(&world.namespace.clone(), &["app2"]).await;
    world.wait("app", "Granted", "False/AccessDenied").await;
    let calls = world.proxy.calls().len();
    assert!(world.data("app").await.is_some());
    world.annotate("app", "bindery.dev/sync", "please").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.proxy.calls().len(), calls);

    let grants: Api<SecretGrant> = Api::all(world.client.clone());
    grants.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.data("app").await.is_some(), "deleting a grant deletes nothing");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_ends_beyond_all_time_is_refused_by_the_api_server() {
    let world = World::without_grant("beyond").await;
    let spec = |end: &str| {
        let namespaces = json!({"names": [world.namespace]});
        json!({"namespaces": namespaces, "secrets": [{"name": "a"}], "expiresAt": end, "reason": "a test"})
    };
    for end in ["9999-12-31T23:59:59Z", "9000-01-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01"] {
        assert!(world.try_grant(&world.namespace, spec(end)).await.is_err(), "{end}");
    }
    for end in ["8999-12-31T23:59:59Z", "2030-01-01T00:00:00.5+02:00"] {
        world.try_grant(&world.namespace, spec(end)).await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_grants_need_a_choice_and_a_missing_one_is_named() {
    let world = World::new("grants").await;
    world.put("app", &guide()).await;
    let other = format!("{}-other", world.namespace);
    world.grant(&other, &["app"]).await;
    let _operator = world.operator();
    let spec = |grant: Option<&str>| json!({"grant": grant, "dataFrom": [{"secret": world.secret_id("app")}]});
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("app", "Granted", "False/AmbiguousGrant").await;
    assert!(message.contains(&other), "{message}");
    world.bind("app", spec(Some("nowhere"))).await;
    world.wait("app", "Granted", "False/GrantNotFound").await;
    assert_eq!(world.proxy.calls(), []);
    world.bind("app", spec(Some(&other))).await;
    world.wait_ready("app").await;
    assert_eq!(world.bindings().get("app").await.unwrap().status.unwrap().grant.as_deref(), Some(other.as_str()));
    let grants: Api<SecretGrant> = Api::all(world.client.clone());
    grants.delete(&other, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arn_is_judged_by_the_name_that_aws_answers() {
    let world = World::without_grant("arn").await;
    world.put("app", &guide()).await;
    world.put("app-worker", &json!({"METRICS_PORT": "9400"})).await;
    // Allows app, and by that the ARN …/app-worker could be meant to be.
    world.grant(&world.namespace.clone(), &["app"]).await;
    let _operator = world.operator();
    let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}", world.secret_id(name));
    world.bind("partial", json!({"dataFrom": [{"secret": arn("app")}]})).await;
    world.wait_ready("partial").await;
    world.bind("other", json!({"dataFrom": [{"secret": arn("app-worker")}]})).await;
    world.wait("other", "Granted", "False/AccessDenied").await;
    world.bind("abroad", json!({"dataFrom": [{"secret": arn("app").replace("eu-west-1", "eu-west-2")}]})).await;
    world.wait("abroad", "Granted", "False/AccessDenied").await;
    assert_eq!(world.proxy.asked_for(), [arn("app")], "no value of another secret is read");
    eventually("the Secret", Duration::from_secs(60), || world.data("partial")).await;
    assert!(world.data("other").await.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_bounds_what_is_published_and_what_may_be_asked_for() {
    let world = World::without_grant("keys").await;
    world.put("app", &guide()).await;
    let spec = |keys: serde_json::Value| {
        json!({
            "namespaces": {"names": [world.namespace]},
            "secrets": [{"name": world.secret_id("app"), "keys": keys}],
            "aws": {"region": "eu-west-1"},
        })
    };
    world.grant_with(&world.namespace, spec(json!(["S3_*", "REDIS_URL"]))).await;
    let _operator = world.operator();
    world.bind("whole", json!({"data": [{"key": "all", "valueFrom": world.secret_id("app")}]})).await;
    let message = world.wait("whole", "Granted", "False/AccessDenied").await;
    assert!(message.contains("the whole payload"), "{message}");
    world
        .bind("named", json!({"data": [{"key": "A", "valueFrom": format!("{}:DATABASE_URL", world.secret_id("app"))}]}))
        .await;
    let message = world.wait("named", "Granted", "False/AccessDenied").await;
    assert!(message.contains("DATABASE_URL"), "{message}");
    world
        .bind(
            "pointer",
            json!({"data": [{"key": "A", "from": {"secret": world.secret_id("app"), "key": "/DATABASE_URL"}}]}),
        )
        .await;
    world.wait("pointer", "Granted", "False/AccessDenied").await;
    assert_eq!(world.proxy.calls(), [], "no call reaches AWS");

    let template = json!({"template": {"ALL": "{% for key in bindery.keys %}{{ key }} {% endfor %}"}});
    world.bind("some", json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": template})).await;
    world.wait_ready("some").await;
    let data = world.data("some").await.unwrap();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ALL", "REDIS_URL", "S3_BUCKET", "S3_ENDPOINT"]);
    assert_eq!(data["ALL"], "REDIS_URL S3_BUCKET S3_ENDPOINT ", "a template sees what is allowed");
    assert_eq!(world.audit()[0]["keys"], json!(["REDIS_URL", "S3_BUCKET", "S3_ENDPOINT"]));

    // A narrower list takes the key out of what is published; that is no failure.
    world.grant_with(&world.namespace, spec(json!(["REDIS_URL"]))).await;
    eventually("the keys to follow the grant", Duration::from_secs(60), || async {
        let keys: Vec<String> = world.data("some").await?.into_keys().collect();
        (keys == ["ALL", "REDIS_URL"]).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_of_the_namespace_opens_and_closes_access_at_once() {
    use k8s_openapi::api::core::v1::Namespace;
    let world = World::without_grant("labels").await;
    world.put("app", &guide()).await;
    let team = world.namespace.clone();
    let spec = json!({
        "namespaces": {"selector": {"matchLabels": {"team": team}}},
        "secrets": [{"name": "{namespace}/*"}],
        "aws": {"region": "eu-west-1"},
    });
    world.grant_with(&world.namespace, spec).await;
    let _operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait("app", "Granted", "False/AccessDenied").await;
    assert_eq!(world.proxy.calls(), []);
    let label = |value: serde_json::Value| {
        let patch = json!({"metadata": {"labels": {"team": value}}});
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let name = world.namespace.clone();
        async move {
            namespaces.patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&patch)).await.unwrap()
        }
    };
    label(json!(team)).await;
    world.wait_ready("app").await;
    label(json!("other")).await;
    world.wait("app", "Granted", "False/AccessDenied").await;
    assert!(world.data("app").await.is_some(), "what is published stays");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_ends_at_its_time_and_what_is_published_stays_or_goes_as_it_says() {
    let world = World::without_grant("expiry").await;
    world.put("app", &guide()).await;
    let in_seconds = |seconds: i64| {
        let end = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
        k8s_openapi::jiff::Timestamp::from_second(end.as_second()).unwrap()
    };
    let spec = |policy: &str, end: k8s_openapi::jiff::Timestamp| {
        json!({
            "namespaces": {"names": [world.namespace]}, "secrets": [{"name": "*"}], "aws": {"region": "eu-west-1"},
            "expiresAt": end.to_string(), "reason": "INC-4711", "onExpiry": policy,
        })
    };
    let (keeps, deletes) = (format!("{}-keeps", world.namespace), format!("{}-deletes", world.namespace));
    world.grant_with(&keeps, spec("Keep", in_seconds(3600))).await;
    world.grant_with(&deletes, spec("Delete", in_seconds(3600))).await;
    let _operator = world.operator();
    world.bind("unnamed", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    for (name, grant) in [("keeps", &keeps), ("deletes", &deletes)] {
        // The refresh is far away: only the end of the grant can wake the binding.
        let spec = json!({"grant": grant, "refreshInterval": "24h", "dataFrom": [{"secret": world.secret_id("app")}]});
        world.bind(name, spec).await;
        world.wait_ready(name).await;
    }
    world.wait("unnamed", "Granted", "False/AccessDenied").await;

    let end = in_seconds(4);
    world.grant_with(&keeps, spec("Keep", end)).await;
    world.grant_with(&deletes, spec("Delete", end)).await;
    for name in ["keeps", "deletes"] {
        let message = world.wait(name, "Granted", "False/GrantExpired").await;
        assert!(message.contains(&end.to_string()), "{message}");
        world.wait(name, "Ready", "False/GrantExpired").await;
    }
    let calls = world.proxy.calls().len();
    eventually("the Secret to be deleted", Duration::from_secs(60), || async {
        world.data("deletes").await.is_none().then_some(())
    })
    .await;
    assert!(world.bindings().get("deletes").await.unwrap().status.unwrap().binding.is_none());
    world.annotate("keeps", "bindery.dev/sync", "please").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.data("keeps").await.is_some());
    assert_eq!(world.proxy.calls().len(), calls, "no further call reaches AWS");
    world.delete_grant(&keeps).await;
    world.delete_grant(&deletes).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_for_the_namespace_and_a_refusal_is_named_and_touches_nobody_else() {
    let world = World::new("role").await;
    world.put("app", &guide()).await;
    let spec = |aws: serde_json::Value| json!({"namespaces": {"names": [world.namespace]}, "secrets": [{"name": world.secret_id("*")}], "aws": aws});
    let by_role = format!("{}-role", world.namespace);
    let role = "arn:aws:iam::123456789012:role/autorepost-production-read";
    let aws = json!({"region": "eu-west-1", "roleArn": role, "externalId": "bindery-test", "sessionTags": true});
    world.grant_with(&by_role, spec(aws)).await;
    let by_account = format!("{}-account", world.namespace);
    let aws = json!({"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "reader"});
    world.grant_with(&by_account, spec(aws)).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "reader", "annotations": {"eks.amazonaws.com/role-arn": role}},
    });
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(world.client.clone(), &world.namespace);

    let _operator = world.operator();
    for (name, grant) in [("plain", &world.namespace), ("by-role", &by_role), ("by-account", &by_account)] {
        world.bind(name, json!({"grant": grant, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    }
    world.wait_ready("plain").await;
    world.wait_ready("by-role").await;
    assert_eq!(world.proxy.count("AssumeRole"), 1);
    let message = world.wait("by-account", "Fetched", "False/CredentialsFailed").await;
    assert!(message.contains(&format!("the ServiceAccount {}/reader does not exist", world.namespace)), "{message}");
    accounts.patch("reader", &kube::api::PatchParams::apply("test"), &kube::api::Patch::Apply(&account)).await.unwrap();
    world.wait_ready("by-account").await;
    assert_eq!(world.proxy.count("AssumeRoleWithWebIdentity"), 1);
    let audit = world.audit();
    let identity = |binding: &str| {
        let record = audit.iter().find(|record| record["binding"] == binding).unwrap();
        record["identity"].as_str().unwrap().to_owned()
    };
    assert_eq!(identity("plain"), "operator");
    assert_eq!(identity("by-role"), format!("{role} as bindery-{}", world.namespace));
    assert!(identity("by-account").starts_with(&format!("ServiceAccount {}/reader", world.namespace)));

    // STS refuses: those who need it are told so, with AWS's code; the others go on.
    world.proxy.fail(&["AssumeRole"], crate::support::Fault::Error(403, "AccessDenied", "no"));
    let other = format!("{}-other", world.namespace);
    let aws = json!({"region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/other"});
    world.grant_with(&other, spec(aws)).await;
    world.bind("refused", json!({"grant": other, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("refused", "Fetched", "False/CredentialsFailed").await;
    assert!(message.contains(&world.secret_id("app")), "{message}");
    world.annotate("plain", "bindery.dev/sync", "now").await;
    eventually("the others to go on", Duration::from_secs(60), || async {
        let status = world.bindings().get("plain").await.unwrap().status.unwrap();
        (status.last_handled_sync.as_deref() == Some("now")).then_some(())
    })
    .await;
    world.proxy.heal();
    world.wait_ready("refused").await;
    for grant in [&by_role, &by_account, &other] {
        world.delete_grant(grant).await;
    }
    world.end().await;
}

/// Namespaces × references × grants, look-alikes among them: each row with its decision, on the real API server, with
/// the reads counted at AWS.
#[tokio::test(flavor = "multi_thread")]
async fn of_all_look_alikes_only_what_a_grant_names_is_read_and_nothing_else_reaches_aws() {
    let granted = World::without_grant("matrix-in").await;
    let outside = World::without_grant("matrix-out").await;
    let ns = &granted.namespace;
    for name in ["app", "team/a", "team/b/c", "app-AbCdEf"] {
        granted.put(name, &guide()).await;
    }
    let spec = json!({
        "namespaces": {"names": [ns]},
        "secrets": [{"name": "{namespace}/app"}, {"name": "{namespace}/team/*"}],
        "aws": {"region": "eu-west-1"},
    });
    granted.grant_with(ns, spec).await;
    let arn =
        |region: &str, account: &str, name: &str| format!("arn:aws:secretsmanager:{region}:{account}:secret:{name}");
    let here = |name: &str| arn("eu-west-1", "123456789012", name);
    let rows: Vec<(String, bool)> = vec![
        (format!("{ns}/app"), true),
        (format!("{ns}/team/a"), true),
        (format!("{ns}/team/b/c"), true),
        (here(&format!("{ns}/app")), true),
        (here(&format!("{ns}/team/a")), true),
        (format!("{ns}/app2"), false),
        (format!("{ns}/ap"), false),
        (format!("{ns}/App"), false),
        (format!("{}/app", ns.to_uppercase()), false),
        (format!("{ns}/app/"), false),
        (format!("{ns}//app"), false),
        (format!("/{ns}/app"), false),
        (format!("x{ns}/app"), false),
        (format!("{ns}x/app"), false),
        (format!("{ns}/../{ns}/app"), false),
        (format!("{ns}/app-AbCdEf"), false),
        (format!("{ns}/app-worker"), false),
        (format!("{ns}/app.bak"), false),
        (format!("{ns}/app@1"), false),
        (format!("{ns}/team"), false),
        (format!("{ns}/teams/a"), false),
        (format!("{ns}/Team/a"), false),
        (format!("other/{ns}/team/a"), false),
        (format!("{}/team/a", outside.namespace), false),
        ("app".to_owned(), false),
        (ns.clone(), false),
        (here(&format!("{ns}/app2")), false),
        (here(&format!("{ns}/app2-AbCdEf")), false),
        (here(&format!("{ns}/app-AbCdEfG")), false),
        (here(&format!("x{ns}/app-AbCdEf")), false),
        (here(&format!("{ns}/app-worker-AbCdEf")), false),
        (here(&format!("{}/team/a-AbCdEf", outside.namespace)), false),
        (arn("eu-west-2", "123456789012", &format!("{ns}/app")), false),
        (arn("us-east-1", "123456789012", &format!("{ns}/team/a-AbCdEf")), false),
        (arn("eu-west-1", "210987654321", &format!("{ns}/app")), false),
        (arn("eu-west-1", "210987654321", &format!("{ns}/team/a-AbCdEf")), false),
    ];
    let _operators = (granted.operator(), outside.operator());
    let mut judged = 0;
    for world in [&granted, &outside] {
        for (index, (reference, _)) in rows.iter().enumerate() {
            world.bind(&format!("row{index}"), json!({"dataFrom": [{"secret": reference}]})).await;
        }
    }
    for world in [&granted, &outside] {
        for (index, (_, allowed)) in rows.iter().enumerate() {
            let name = format!("row{index}");
            if *allowed && world.namespace == *ns {
                world.wait_ready(&name).await;
            } else {
                world.wait(&name, "Granted", "False/AccessDenied").await;
                assert!(world.data(&name).await.is_none());
            }
            judged += 1;
        }
    }
    let mut of_granted = granted.proxy.asked_for();
    of_granted.sort();
    let mut expected: Vec<String> = rows.iter().filter(|row| row.1).map(|row| row.0.clone()).collect();
    expected.sort();
    assert_eq!(of_granted, expected, "each allowed row is read once, and no other");
    assert_eq!(outside.proxy.asked_for(), Vec::<String>::new(), "no read for a namespace that no grant names");
    assert!(outside.proxy.calls().iter().all(|call| call.operation == "GetCallerIdentity"));
    println!("access matrix: {judged} rows");
    assert!(judged >= 60);
    outside.end().await;
    granted.end().await;
}
