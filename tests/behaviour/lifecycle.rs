//! What becomes of the Secret when its binding goes or is made anew.

use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{conditions, wait::await_condition};
use serde_json::{Value, json};

use crate::publishing::guide;
use crate::support::api_proxy::{ApiRequest, Verb};
use crate::support::{ApiFault, World, eventually, workloads};

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_goes_with_its_binding_or_stays_as_the_policy_says() {
    let world = World::new("policy").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    let spec =
        |policy: &str| json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"deletionPolicy": policy}});
    world.bind("goes", spec("Delete")).await;
    world.bind("stays", spec("Retain")).await;
    world.bind("changes", spec("Delete")).await;
    for binding in ["goes", "stays", "changes"] {
        world.wait_ready(binding).await;
    }
    world.bind("changes", spec("Retain")).await;
    eventually("the owner reference to go", Duration::from_secs(60), || async {
        let secret = world.secrets().get("changes").await.unwrap();
        secret.metadata.owner_references.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    for binding in ["goes", "stays", "changes"] {
        world.bindings().delete(binding, &DeleteParams::default()).await.unwrap();
    }
    eventually("the Secret to be collected", Duration::from_secs(60), || async {
        world.data("goes").await.is_none().then_some(())
    })
    .await;
    assert!(world.data("stays").await.is_some());
    assert!(world.data("changes").await.is_some());

    // A binding of the same name goes on with the Secret that its predecessor left.
    world.bind("stays", spec("Retain")).await;
    world.wait_ready("stays").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_publishes_the_new_secret_first_and_deletes_the_old_one_when_nothing_reads_it() {
    let world = World::new("renamed").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    let spec = |name: &str| json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": name}});
    world.bind("app", spec("first")).await;
    world.wait_ready("app").await;
    let user = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "user"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "first"}}]}]},
            },
        },
    });
    let deployments: kube::Api<k8s_openapi::api::apps::v1::Deployment> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    deployments.patch("user", &PatchParams::apply("test"), &Patch::Apply(&user)).await.unwrap();

    world.bind("app", spec("second")).await;
    let second = eventually("the new Secret", Duration::from_secs(60), || world.data("second")).await;
    eventually("the status to say that the old one stays", Duration::from_secs(60), || async {
        let (_, message) = world.condition("app", "Applied").await?;
        (message.contains("\"second\" holds") && message.contains("earlier name, first, stays")).then_some(())
    })
    .await;
    assert_eq!(world.data("first").await.unwrap(), second);

    deployments.delete("user", &DeleteParams::default()).await.unwrap();
    // The next pass finds it out of use; a restart of the operator in between loses nothing.
    operator.kill();
    operator.restart();
    eventually("the old Secret to go", Duration::from_secs(60), || async {
        world.data("first").await.is_none().then_some(())
    })
    .await;
    assert_eq!(world.data("second").await.unwrap(), second);
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_secret_stays_while_its_user_moves_from_one_kind_to_another() {
    let world = World::new("moves").await;
    world.put("app", &guide()).await;
    let proxy = world.api_proxy().await;
    let _operator = world.operator_through(&proxy, &[]);
    let spec = |name: &str| json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": name}});
    world.bind("app", spec("first")).await;
    world.wait_ready("app").await;
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "user"},
        "spec": {
            "tls": [{"hosts": ["a.example"], "secretName": "first"}],
            "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}},
        },
    });
    let ingresses: Api<Ingress> = Api::namespaced(world.client.clone(), &world.namespace);
    ingresses.patch("user", &PatchParams::apply("test"), &Patch::Apply(&ingress)).await.unwrap();
    // Deployments are listed before StatefulSets, and Ingresses after them.
    let between = |request: &ApiRequest| request.verb == Verb::List && request.is_of("statefulsets");
    proxy.fail(ApiFault::Stall, between);
    world.bind("app", spec("second")).await;
    eventually("the search for users of the Secret", Duration::from_secs(60), || async {
        (proxy.under_way(between) > 0).then_some(())
    })
    .await;
    let mut user = workloads::manifest("Deployment", "user", &workloads::whole("first"));
    user["spec"]["replicas"] = json!(0);
    workloads::apply(&world, "test", &user).await;
    ingresses.delete("user", &DeleteParams::background()).await.unwrap();
    proxy.heal();
    eventually("the message to name the Deployment", Duration::from_secs(60), || async {
        let (_, message) = world.condition("app", "Applied").await?;
        message.contains("earlier name, first, stays as long as something refers to it: Deployment user").then_some(())
    })
    .await;
    assert!(world.data("first").await.is_some(), "the Deployment uses it");
    world.end().await;
}

/// The CRDs of the Gateway API, as far as they matter here.
async fn install_gateway_api(world: &World) {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open}}});
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for (kind, plural, version) in [("Gateway", "gateways", "v1"), ("ReferenceGrant", "referencegrants", "v1beta1")] {
        let name = format!("{plural}.gateway.networking.k8s.io");
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "https://example.com/test"}},
            "spec": {
                "group": "gateway.networking.k8s.io", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
            },
        });
        crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
        let served = await_condition(crds.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_secret_stays_as_long_as_an_object_of_any_kind_names_it() {
    let world = World::new("named").await;
    workloads::install_argo_rollouts(&world.client).await;
    install_gateway_api(&world).await;
    world.put("app", &guide()).await;
    let template = |more: Value| {
        let mut pod = json!({"containers": [{"name": "c", "image": "i"}]});
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"labels": {"a": "b"}}, "spec": pod})
    };
    let selector = json!({"matchLabels": {"a": "b"}});
    let pull = json!({"imagePullSecrets": [{"name": "first"}]});
    let listeners =
        json!([{"name": "l", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "first"}]}}]);
    let volume = json!({"volumes": [{"name": "v", "iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:x", "lun": 0, "secretRef": {"name": "first"}}}]});
    let objects = [
        (
            "networking.k8s.io/v1",
            "Ingress",
            "ingresses",
            json!({"spec": {"tls": [{"hosts": ["a.example"], "secretName": "first"}], "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        ),
        ("gateway.networking.k8s.io/v1", "Gateway", "gateways", json!({"spec": {"listeners": listeners}})),
        (
            "gateway.networking.k8s.io/v1beta1",
            "ReferenceGrant",
            "referencegrants",
            json!({"spec": {"from": [], "to": [{"group": "", "kind": "Secret", "name": "first"}]}}),
        ),
        ("v1", "ServiceAccount", "serviceaccounts", pull.clone()),
        (
            "argoproj.io/v1alpha1",
            "Rollout",
            "rollouts",
            json!({"spec": {"replicas": 0, "selector": selector, "template": template(pull.clone())}}),
        ),
        (
            "apps/v1",
            "Deployment",
            "deployments",
            json!({"spec": {"replicas": 0, "selector": selector, "template": template(pull.clone())}}),
        ),
        (
            "apps/v1",
            "ReplicaSet",
            "replicasets",
            json!({"spec": {"replicas": 0, "selector": selector, "template": template(volume)}}),
        ),
        (
            "v1",
            "ReplicationController",
            "replicationcontrollers",
            json!({"spec": {"replicas": 0, "selector": {"a": "b"}, "template": template(pull.clone())}}),
        ),
        ("v1", "PodTemplate", "podtemplates", json!({"template": template(pull)})),
    ];
    let api = |version: &str, kind: &str, plural: &str| -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Api::namespaced_with(world.client.clone(), &world.namespace, &resource)
    };
    let _operator = world.operator();
    let spec = |name: &str| json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": name}});
    world.bind("app", spec("first")).await;
    world.wait_ready("app").await;
    let mut before: Option<Api<DynamicObject>> = None;
    for (number, (version, kind, plural, more)) in objects.iter().enumerate() {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "user"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let users = api(version, kind, plural);
        users.patch("user", &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
        match before.replace(users) {
            None => world.bind("app", spec("second")).await,
            Some(before) => drop(before.delete("user", &DeleteParams::background()).await.unwrap()),
        }
        world.annotate("app", "bindery.dev/sync", &number.to_string()).await;
        eventually(&format!("the message to name the {kind}"), Duration::from_secs(120), || async {
            let (_, message) = world.condition("app", "Applied").await?;
            let says = format!("earlier name, first, stays as long as something refers to it: {kind} user");
            message.contains(&says).then_some(())
        })
        .await;
        assert!(world.data("first").await.is_some(), "{kind} names it");
    }
    before.unwrap().delete("user", &DeleteParams::background()).await.unwrap();
    eventually("the old Secret to go", Duration::from_secs(60), || async {
        world.data("first").await.is_none().then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_without_waiting_for_the_operator() {
    let world = World::new("namespace").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    operator.kill();
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // The one that deletes namespaces has those of all tests to delete.
    eventually("the namespace to be gone", Duration::from_secs(180), || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
}
