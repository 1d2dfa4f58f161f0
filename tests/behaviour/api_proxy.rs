//! What stands between the operator and the API server does what tests rely on.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use crate::support::api_proxy::Verb;
use crate::support::{ApiFault, ApiProxy, World, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// A world, a proxy with an administrator's rights, and the Secrets of the world through it.
async fn start(name: &str) -> (World, ApiProxy, Api<Secret>) {
    let world = World::without_grant(name).await;
    let kubeconfig = std::env::var("KUBECONFIG").expect("the tests need KUBECONFIG to name a cluster");
    let proxy = ApiProxy::start(kubeconfig.as_ref(), &world.folder).await;
    let named = Kubeconfig::read_from(&proxy.kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(named, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    let secrets = Api::namespaced(Client::try_from(config).unwrap(), &world.namespace);
    (world, proxy, secrets)
}

fn secret(name: &str) -> Patch<serde_json::Value> {
    Patch::Apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"test": "true"}},
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_known_and_a_watch_goes_through_piece_by_piece() {
    let (world, proxy, secrets) = start("api-proxy").await;
    let list = secrets.list_metadata(&kube::api::ListParams::default()).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("test=true");
    let mut watch = Box::pin(secrets.watch_metadata(&params, &version).await.unwrap());
    for name in ["one", "two"] {
        // The next is made only when the one before was seen.
        world.secrets().patch(name, &PatchParams::apply("test"), &secret(name)).await.unwrap();
        let event = tokio::time::timeout(LIMIT, watch.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(&event, WatchEvent::Added(added) if added.name_any() == name), "{event:?}");
    }
    let watches = || proxy.under_way(|request| request.verb == Verb::Watch);
    assert_eq!((watches(), proxy.under_way(|_| true)), (1, 1), "a watch is under way until it ends");
    drop(watch);
    eventually("the watch to end", LIMIT, || async { (watches() == 0).then_some(()) }).await;
    assert!(secrets.get_opt("none").await.unwrap().is_none());
    secrets.delete("one", &kube::api::DeleteParams::default()).await.unwrap();

    let seen: Vec<_> = proxy
        .exchanges(|request| request.namespace.as_deref() == Some(&world.namespace))
        .into_iter()
        .map(|exchange| (exchange.request.verb, exchange.request.resource, exchange.request.name, exchange.status))
        .collect();
    let of = |verb, name: Option<&str>, status| (verb, "secrets".to_owned(), name.map(str::to_owned), Some(status));
    assert_eq!(
        seen,
        [
            of(Verb::List, None, 200),
            of(Verb::Watch, None, 200),
            of(Verb::Get, Some("none"), 404),
            of(Verb::Delete, Some("one"), 200),
        ]
    );
    assert_eq!(proxy.most_under_way(|request| request.verb != Verb::Watch), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_cut_lost_delayed_and_held_as_it_is_told() {
    let (world, proxy, secrets) = start("api-faults").await;
    let params = PatchParams::apply("bindery").force();
    for code in [403, 410, 429, 500, 503] {
        proxy.fail(ApiFault::Status(code), |request| request.verb == Verb::Get);
        let refused = secrets.get("none").await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == code), "{refused}");
        assert!(secrets.list(&kube::api::ListParams::default()).await.is_ok(), "others pass");
    }
    proxy.fail(ApiFault::Cut, |request| request.name.as_deref() == Some("cut"));
    proxy.fail(ApiFault::Lose, |request| request.name.as_deref() == Some("lost"));
    for (name, arrives) in [("cut", false), ("lost", true)] {
        let failed = secrets.patch(name, &params, &secret(name)).await.unwrap_err();
        assert!(!matches!(&failed, kube::Error::Api(_)), "{failed}");
        assert_eq!(world.secrets().get_opt(name).await.unwrap().is_some(), arrives, "{name}");
    }
    proxy.heal();
    proxy.fail(ApiFault::Delay(Duration::from_millis(300)), |request| request.resource == "secrets");
    let started = Instant::now();
    secrets.get("lost").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));

    proxy.fail(ApiFault::Stall, |request| request.resource == "secrets");
    let held = [secrets.clone(), secrets.clone()].map(|secrets| tokio::spawn(async move { secrets.get("lost").await }));
    eventually("two requests to be held", LIMIT, || async { (proxy.under_way(|_| true) == 2).then_some(()) }).await;
    assert!(held.iter().all(|held| !held.is_finished()));
    proxy.heal();
    for held in held {
        held.await.unwrap().unwrap();
    }
    assert_eq!((proxy.under_way(|_| true), proxy.most_under_way(|_| true)), (0, 2));
    world.end().await;
}
