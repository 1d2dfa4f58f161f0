//! What pure files may not name.

use super::{breaks, keeps};
use crate::rules::PURE;

#[test]
fn a_clock_in_the_domain_is_reported() {
    for (text, what) in [
        ("use k8s_openapi::jiff::Timestamp;\nfn f() { Timestamp::now(); }", "Timestamp::now"),
        ("use jiff::Timestamp as T;\nfn f() { g(T::now) }", "T::now"),
        ("fn f() { g!(std::time::Instant::now()); }", "Instant::now"),
        ("use std::time::{Duration, SystemTime};", "SystemTime"),
        ("fn f(at: Instant) { at.elapsed(); }", ".elapsed()"),
        ("fn f(at: Instant) { assert!(at.elapsed() > A); }", ".elapsed()"),
    ] {
        breaks(&PURE, &[("domain/rotation/due.rs", text)], &[&format!("domain/rotation/due.rs {what}")]);
        keeps(&PURE, &[("state/backoff.rs", text)]);
    }
    keeps(&PURE, &[("domain/a.rs", "use std::time::Duration;\nfn f(now: Timestamp) { let now = now; Self::now(); }")]);
}

#[test]
fn what_acts_is_reported_in_every_pure_step() {
    let cases = [
        ("use kube::Client;", "Client"),
        ("use crate::kubernetes::api_server::ReadClient;", "ReadClient"),
        ("fn f(clients: &crate::reconcile::context::Clients) {}", "Clients"),
        ("fn f(api: &kube::Api<Secret>) {}", "Api"),
        ("use kube::{api::{Api as A}};", "Api"),
        ("use kube::api::*;", "Api"),
        ("use std::sync::{Arc, Mutex};", "Mutex"),
        ("static A: std::sync::RwLock<u8> = B;", "RwLock"),
        ("use tokio::sync;", "tokio"),
        ("fn f() { fastrand::u8(..); }", "fastrand"),
        ("fn f() { getrandom::fill(&mut a); }", "getrandom"),
        ("use aws_sdk_sts::types;", "aws_sdk_sts"),
        ("use std::{env, fmt};", "std::env"),
        ("use std::net::IpAddr;", "std::net"),
        ("fn f() { std::fs::read(a); }", "std::fs"),
        ("async fn f() {}", "async"),
        ("fn f() { g(async {}) }", "async"),
    ];
    for (text, what) in cases {
        for file in ["domain/binding.rs", "reconcile/binding/plan.rs", "reconcile/binding/status/ready.rs"] {
            breaks(&PURE, &[(file, text)], &[&format!("{file} {what}")]);
        }
        keeps(&PURE, &[("reconcile/binding/apply.rs", text), ("reconcile/binding/steps.rs", text)]);
    }
}

#[test]
fn what_comes_by_a_re_export_of_another_file_is_reported() {
    let other = ("reconcile/context.rs", "pub use kube::Client as Requests;");
    let step = ("reconcile/binding/step.rs", "use crate::reconcile::context::Requests;");
    breaks(&PURE, &[other, step], &["reconcile/binding/step.rs Client"]);
    keeps(&PURE, &[other, ("reconcile/binding/step.rs", "use crate::reconcile::context::Attempt;")]);
}

#[test]
fn payloads_and_templates_know_no_kubernetes() {
    let text = "use k8s_openapi::jiff::Timestamp;";
    for file in ["domain/payload.rs", "domain/payload/json.rs", "domain/render/glob.rs"] {
        breaks(&PURE, &[(file, text)], &[&format!("{file} k8s_openapi")]);
    }
    keeps(&PURE, &[("domain/rotation/age.rs", text), ("domain/payload.rs", "use serde::Deserialize;")]);
}
