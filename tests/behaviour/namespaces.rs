//! Several namespaces, of which one cannot be listed.

use std::time::Duration;

use bindery::api::SecretBinding;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::mark_copies::{bare_namespace, copy_rights};
use crate::support::operator::{Operator, Setup, read_log};
use crate::support::serving::get;
use crate::support::world::CANARY;
use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_listed_is_named_and_the_others_are_served() {
    let world = World::new("unlisted").await;
    let unlisted = bare_namespace(&world).await;
    world.put("app", &json!({"A": format!("{CANARY}-a")})).await;
    let grant = json!({"namespaces": {"names": [world.namespace, unlisted]}, "aws": {"region": "eu-west-1"},
        "secrets": [{"name": world.secret_id("app")}]});
    world.grant_with(&world.namespace, grant).await;
    let spec = json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]});
    world.bind("app", spec.clone()).await;
    let there: Api<SecretBinding> = Api::namespaced(world.client.clone(), &unlisted);
    let object = json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "app"}, "spec": spec});
    there.patch("app", &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();

    // It comes first, and so would keep all from starting if the first one counted.
    let mut setup = world.setup();
    setup.namespaces.insert(0, unlisted.clone());
    let mut operator = Operator::start(Setup { log_level: "info", ..setup });
    world.wait_ready("app").await;
    let line = format!("the watch of SecretBinding in {unlisted} fails since ");
    eventually("/readyz to name it", LIMIT, || async {
        let (head, body) = get(&operator.address, "/readyz").await?;
        let told = body.lines().any(|said| said.starts_with(&line) && said.ends_with("is not served"));
        (head.contains("200") && told).then_some(())
    })
    .await;
    let series = format!("bindery_watch_age_seconds{{kind=\"SecretBinding\",namespace=\"{unlisted}\"}}");
    let (_, metrics) = get(&operator.address, "/metrics").await.unwrap();
    let age = metrics.lines().find_map(|metric| metric.strip_prefix(&series)).expect("the metric names it");
    assert!(age.trim().parse::<f64>().unwrap() > 1.0, "{age}");
    let log = read_log(&world.folder, "operator.log");
    assert!(log.lines().any(|line| line.contains(&unlisted) && line.contains("is not served until")), "{log}");

    // Once it may be listed it is served, without a restart.
    copy_rights(&world, &unlisted).await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &unlisted);
    eventually("the other namespace to be served", LIMIT, || async { secrets.get_opt("app").await.unwrap() }).await;
    eventually("/readyz to name nothing", LIMIT, || async {
        let (_, body) = get(&operator.address, "/readyz").await?;
        (!body.contains("fails since")).then_some(())
    })
    .await;
    assert!(operator.is_running());
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&unlisted, &DeleteParams::background()).await.unwrap();
    world.end().await;
}
