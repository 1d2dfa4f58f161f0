//! Where requests, writes and calls of AWS stand.

use super::{breaks, keeps, keys};
use crate::rules::{PERMITS, REQUESTS, SDK, WRITES};

#[test]
fn an_api_in_a_reconcile_is_reported() {
    for (text, what) in [
        ("fn f() { let a: kube::Api<Secret> = kube::Api::all(client); }", "Api"),
        ("use kube::{Api, ResourceExt as _};", "Api"),
        ("use kube as k;\nfn f() { k::api::Api::all(client); }", "Api"),
        ("fn f() { select! { a = kube::Api::all(client).list() => {} } }", "Api"),
        ("use kube::runtime::watcher;", "watcher"),
        ("fn f() { kube::runtime::metadata_watcher(api, config); }", "metadata_watcher"),
        ("fn f() { client.request::<Secret>(request); }", ".request()"),
        ("fn f(client: &kube::Client) { client.request(request); }", ".request()"),
        ("fn f() { kube::Client::request(client, request); }", "request"),
        ("fn f() { client.apiserver_version(); }", ".apiserver_version()"),
    ] {
        breaks(&REQUESTS, &[("reconcile/binding/apply.rs", text)], &[&format!("reconcile/binding/apply.rs {what}")]);
        keeps(&REQUESTS, &[("kubernetes/read.rs", text), ("controller/watch.rs", text)]);
    }
    for text in [
        "use kube::runtime::watcher::Event;\nfn f(error: kube::Error) { if let kube::Error::Api(_) = error {} }",
        "fn f(client: WriteClient) { client.request(); batch.request(key); sender.send(1); }",
        "use kube::{Client, Config};\nfn f() { Client::try_from(config); }",
    ] {
        keeps(&REQUESTS, &[("reconcile/binding/apply.rs", text)]);
    }
}

#[test]
fn a_write_outside_of_its_files_is_reported() {
    for (text, what) in [
        ("fn f() { api.patch(name, &params, &patch); }", ".patch()"),
        ("fn f() { timeout!(api.patch_metadata(name, &params, &patch)); }", ".patch_metadata()"),
        ("fn f() { api.create(&params, &object); }", ".create()"),
        ("fn f() { api.replace(name, &params, &object); }", ".replace()"),
        ("fn f() { api.delete(name, &params); }", ".delete()"),
        ("fn f() { api.delete_collection(&params, &list); }", ".delete_collection()"),
        ("fn f() { kube::Api::delete(&api, name, &params); }", "delete"),
        ("use kube::api::{ListParams, PostParams};", "PostParams"),
        ("fn f() { http::Request::patch(url); }", "patch"),
    ] {
        breaks(&WRITES, &[("kubernetes/read.rs", text)], &[&format!("kubernetes/read.rs {what}")]);
        let by_right = ["write", "report", "job", "lease", "restart"].map(|name| format!("kubernetes/{name}.rs"));
        for file in &by_right {
            keeps(&WRITES, &[(file, text)]);
        }
        assert_eq!(keys(&WRITES, &[("kubernetes/read.rs", text)], &["kubernetes/read.rs"]), [""; 0], "exempt");
    }
    let write = "fn f() { api.create(&params, &object); }";
    breaks(&WRITES, &[("reconcile/write.rs", write)], &["reconcile/write.rs .create()"]);
    let others = "fn f() { options.create(true); text.replace(a, b); entry.replace(c); set.delete(d); }";
    keeps(&WRITES, &[("kubernetes/read.rs", others)]);
}

#[test]
fn a_permit_in_a_step_that_observes_is_reported() {
    let server = "pub struct ApiServer;\npub struct Permit;\npub struct WriteClient;\npub struct ReadClient;";
    for (text, what) in [
        ("fn f() { cx.clients.kubernetes.permit(None); }", ".permit()"),
        ("use crate::kubernetes::api_server::ApiServer;\nfn f() { ApiServer::permit(server); }", "ApiServer::permit"),
        ("use crate::kubernetes::api_server::Permit;\nfn f(permit: &Permit) {}", "Permit"),
        ("use crate::kubernetes::api_server as a;\nfn f(client: a::WriteClient) {}", "WriteClient"),
        ("fn f() { cx.clients.kubernetes.watch_client(); }", ".watch_client()"),
    ] {
        let at = |file: &'static str| [("kubernetes/api_server.rs", server), (file, text)];
        let key = format!("reconcile/binding/observe.rs {what}");
        breaks(&PERMITS, &at("reconcile/binding/observe.rs"), &[&key]);
        let by_right = if what == ".watch_client()" { "controller/watch.rs" } else { "reconcile/binding/entry.rs" };
        keeps(&PERMITS, &at(by_right));
    }
    let reads = "use crate::kubernetes::api_server::ReadClient;\nfn f(client: ReadClient) { grants.permit(a, b); }";
    keeps(&PERMITS, &[("kubernetes/api_server.rs", server), ("reconcile/binding/observe.rs", reads)]);
}

#[test]
fn the_sdk_of_aws_outside_of_aws_is_reported() {
    for text in ["use aws_sdk_sts::Client;", "fn f() { aws_sdk_sts::Client::new(c); }", "use aws_sdk_sts as sts;"] {
        breaks(&SDK, &[("run.rs", text)], &["run.rs aws_sdk_sts"]);
        keeps(&SDK, &[("aws/sdk.rs", text)]);
    }
    let re_export = ("aws/sdk.rs", "pub use aws_sdk_sts::Client as Sts;");
    breaks(&SDK, &[re_export, ("run.rs", "use crate::aws::sdk::Sts;")], &["run.rs aws_sdk_sts"]);
}
