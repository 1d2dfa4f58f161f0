//! `docs/rotation.md` and the manifests of `examples/rotation` that it explains agree with each other and with the program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bindery::api::{OverlapStrategy, RotationAction, SecretBinding, SecretGrant};
use bindery::domain::binding::Binding;
use bindery::domain::grant::{Access, Home, Requester, decide, requested_keys};
use bindery::domain::rollout::consumers::{Uses, uses};
use bindery::domain::rollout::pod::PodManifest;
use bindery::domain::rotation::gate::{Names, look};
use bindery::domain::rotation::job;
use bindery::domain::rotation::job::Purpose;
use bindery::domain::rotation::rule::{Action, Rule};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{PodSpec, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NAMESPACE: &str = "autorepost-production";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/rotation.md")).unwrap()
}

/// The texts of the examples, by file.
fn texts() -> BTreeMap<PathBuf, String> {
    let files = std::fs::read_dir(root().join("examples/rotation")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// The manifests of a kind, without a field that the type does not know.
fn all<T: DeserializeOwned + serde::Serialize>(kind: &str) -> Vec<T> {
    let manifests = texts().into_values().flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap());
    let of_kind = manifests.filter(|manifest| manifest["kind"] == kind);
    of_kind
        .map(|manifest| {
            let parsed: T = serde_json::from_value(manifest.clone()).unwrap();
            let written = serde_json::to_value(&parsed).unwrap();
            contains(&written, &manifest, kind);
            parsed
        })
        .collect()
}

/// Fails where `part` has something that `whole` has not.
fn contains(whole: &Value, part: &Value, at: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (field, value) in part {
                let at = format!("{at}.{field}");
                contains(whole.get(field).unwrap_or_else(|| panic!("{at} is no field")), value, &at);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            for (index, (whole, part)) in whole.iter().zip(part).enumerate() {
                contains(whole, part, &format!("{at}[{index}]"));
            }
        }
        (whole, part) => assert_eq!(whole, part, "{at}"),
    }
}

/// The bindings, each with what the only grant allows it.
fn bindings() -> Vec<(Binding, Access)> {
    let grants: Vec<SecretGrant> = all("SecretGrant");
    let bindings: Vec<SecretBinding> = all("SecretBinding");
    assert_eq!(bindings.len(), 2);
    let parsed = bindings.iter().map(|manifest| {
        let mut manifest = manifest.clone();
        assert_eq!(manifest.namespace().as_deref(), Some(NAMESPACE));
        manifest.metadata.uid = Some("u".to_owned());
        let binding = Binding::parse(&manifest).unwrap();
        let asker = Requester { namespace: NAMESPACE, labels: None, grant: None };
        let access =
            decide(&grants, asker, &requested_keys(&binding.mapping), &Home::default(), Timestamp::UNIX_EPOCH).unwrap();
        (binding, access)
    });
    parsed.collect()
}

fn secret_of(binding: &Binding) -> String {
    let [extract] = &binding.mapping.data_from[..] else { panic!("{} has one source", binding.name) };
    extract.source.secret.to_string()
}

fn rule<'a>(binding: &'a Binding, name: &str) -> &'a Rule {
    binding.rotation.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("{} has no {name}", binding.name))
}

#[test]
fn the_grant_allows_each_action_of_the_bindings_and_no_more() {
    let bindings = bindings();
    let mut allowed = 0;
    for (binding, access) in &bindings {
        let secret = secret_of(binding);
        for rule in &binding.rotation {
            let Some(action) = rule.action.needs() else { continue };
            for key in &rule.keys {
                assert!(access.permits_rotation(action, &secret, key.as_str()), "{}: {action:?} {key}", binding.name);
                allowed += 1;
            }
        }
        for (action, key) in [
            (RotationAction::Generate, "DATABASE_URL"),
            (RotationAction::Generate, "TIKTOK_COOKIE"),
            (RotationAction::RunJob, "TOKEN_ENCRYPTION_KEY"),
            (RotationAction::RotateSecret, "TOKEN_ENCRYPTION_KEY"),
        ] {
            assert!(!access.permits_rotation(action, &secret, key), "{action:?} {key}");
        }
    }
    assert_eq!(allowed, 5);
}

#[test]
fn app_and_worker_rotate_the_key_together_and_each_provider_has_a_contact() {
    let bindings = bindings();
    let key = |index: usize| rule(&bindings[index].0, "token-encryption-key");
    let (app, worker) = (key(0), key(1));
    assert_eq!((&app.clock, &app.action), (&worker.clock, &worker.action));
    let overlaps = [app, worker].map(|rule| rule.overlap.as_ref().unwrap());
    assert!(overlaps.iter().all(|overlap| overlap.strategy == OverlapStrategy::Staged));
    assert_eq!(overlaps[0].group, overlaps[1].group);
    let jobs: Vec<_> = overlaps.iter().filter_map(|overlap| overlap.reencrypt.clone()).collect();
    assert_eq!(jobs, ["reencrypt-tokens"]);
    for (binding, _) in &bindings {
        for provider in ["meta-oauth", "google-oauth", "x-oauth"] {
            let rule = rule(binding, provider);
            assert!(!rule.has_clock() && rule.contact.is_some() && rule.action == Action::Notify, "{provider}");
        }
    }
}

fn owner() -> OwnerReference {
    OwnerReference { kind: "ReplicaSet".to_owned(), controller: Some(true), ..OwnerReference::default() }
}

/// A pod of a template, younger than any phase.
fn pod(name: &str, spec: &PodSpec) -> PodManifest {
    let metadata = json!({"name": name, "creationTimestamp": "2027-01-15T08:00:00Z", "ownerReferences": [owner()]});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

#[test]
fn jobs_may_be_run_and_every_pod_can_take_part_in_an_overlap() {
    let (cron_jobs, deployments): (Vec<CronJob>, Vec<Deployment>) = (all("CronJob"), all("Deployment"));
    let accounts: Vec<ServiceAccount> = all("ServiceAccount");
    let mut pods = Vec::new();
    for cron_job in &cron_jobs {
        let purpose = Purpose { name: "job", owner: owner(), binding: "app", rule: "rule" };
        let job = job::of_cron_job(cron_job, &purpose).unwrap();
        assert_eq!(cron_job.spec.as_ref().unwrap().suspend, Some(true), "Bindery alone runs it");
        let spec = job.spec.unwrap().template.spec.unwrap();
        if let Some(account) = &spec.service_account_name {
            assert!(accounts.iter().any(|known| known.name_any() == *account), "{account}");
        }
        pods.push(pod(&cron_job.name_any(), &spec));
    }
    for deployment in &deployments {
        let template = deployment.spec.as_ref().unwrap().template.clone();
        pods.push(pod(&deployment.name_any(), &template.spec.unwrap()));
    }
    for (binding, _) in bindings() {
        let target = binding.target.name.as_str();
        assert!(binding.restart.restarts_any(), "{}", binding.name);
        let used = pods.iter().any(|pod| uses(pod.spec().unwrap(), target) != Uses::Nothing);
        assert!(used, "no workload uses {target}");
        for rule in &binding.rotation {
            let named = match &rule.action {
                Action::RunJob(cron_job) => Some(cron_job.clone()),
                _ => None,
            };
            for cron_job in named.into_iter().chain(rule.overlap.as_ref().and_then(|overlap| overlap.reencrypt.clone()))
            {
                assert!(cron_jobs.iter().any(|known| known.name_any() == cron_job), "{cron_job}");
            }
            let Some(overlap) = &rule.overlap else { continue };
            let (key, next) = (overlap.key.as_str(), overlap.next_key.as_str());
            let names = Names { target, key, next, previous: overlap.previous_key.as_str() };
            let gate = look(&pods, names, Timestamp::UNIX_EPOCH);
            assert!(gate.seen && gate.older.is_empty() && gate.blocked.is_empty(), "{gate:?}");
        }
    }
}

/// The fenced blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn what_the_page_shows_of_manifests_stands_in_the_examples() {
    let texts = texts();
    let blocks = blocks(&page(), "yaml");
    assert!(blocks.len() >= 6, "{} blocks are found", blocks.len());
    for block in blocks {
        assert!(texts.values().any(|text| text.contains(&format!("{block}\n"))), "no example has\n{block}");
    }
}

/// The messages under "What blocks": their fixed parts stand in the sources.
#[test]
fn the_messages_that_the_page_explains_are_the_programs() {
    let page = page();
    let part = page.split("\n## What blocks, and how to go on\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 10, "{} rows", rows.len());
    let sources: String = [
        "src/domain/rotation/overlap.rs",
        "src/domain/rotation/gate.rs",
        "src/domain/rotation/job.rs",
        "src/reconcile/rotation/overlap.rs",
        "src/reconcile/error.rs",
        "src/settings.rs",
    ]
    .iter()
    .map(|file| std::fs::read_to_string(root().join(file)).unwrap())
    .collect();
    // A literal may go over the end of a line.
    let plain = sources.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    for row in rows {
        let message = row.trim_start_matches("| ").split(" | ").next().unwrap();
        for fixed in
            message.split('…').map(|fixed| fixed.trim_matches([' ', ':', ','])).filter(|fixed| !fixed.is_empty())
        {
            assert!(plain.contains(fixed), "no message says {fixed:?}");
        }
    }
}
