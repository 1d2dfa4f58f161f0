//! Secrets that are not Bindery's cost it nothing.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::Bench;
use crate::cluster::work;
use crate::phases::cold::REST;
use crate::world::NAMESPACES;

/// Measures it.
pub async fn run(bench: &mut Bench) {
    let without = at_rest(bench).await;
    bench.report.figure("foreign", "resident memory at rest, without", without, "MB");
    let world = format!("{}-foreign", bench.cluster.run);
    let namespaces: Vec<String> = (0..NAMESPACES).map(|number| format!("{world}-{number}")).collect();
    bench.cluster.make_namespaces(&world, &namespaces).await;
    let client = bench.cluster.client.clone();
    work("Secrets made", bench.settings.foreign, move |number| {
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespaces[number % NAMESPACES]);
        let secret = Secret {
            metadata: ObjectMeta { name: Some(format!("s{number}")), ..ObjectMeta::default() },
            data: Some([("KEY".to_owned(), ByteString(b"of somebody else".to_vec()))].into()),
            ..Secret::default()
        };
        async move {
            api.create(&PostParams::default(), &secret).await.unwrap();
        }
    })
    .await;
    let with = at_rest(bench).await;
    bench.report.figure("foreign", "resident memory at rest, with", with, "MB");
    let claim = format!("memory for {} Secrets that are not Bindery's", bench.settings.foreign);
    bench.report.at_most("foreign", &claim, Some(with - without), 5.0, "MB");
    bench.cluster.remove_world(&world).await;
}

async fn at_rest(bench: &mut Bench) -> f64 {
    let operator = bench.settled_operator(&[]).await;
    tokio::time::sleep(REST).await;
    operator.resident()
}
