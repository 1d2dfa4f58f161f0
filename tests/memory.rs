//! What one pass holds in memory at most: the largest payload that Secrets Manager takes, mapped whole, key by key and
//! through templates.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and tells its figure"
)]

use std::collections::BTreeMap;

use bindery::api::{SecretBinding, SecretBindingSpec};
use bindery::domain::binding::Binding;
use bindery::domain::fingerprint::FingerprintKey;
use bindery::domain::payload::Payload;
use bindery::domain::target::Desired;
use peak_alloc::PeakAlloc;
use serde_json::json;
use zeroize::Zeroizing;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The largest value that Secrets Manager takes, in bytes.
const LARGEST: usize = 65_536;

/// The bound, in multiples of the payload: the payload itself, the values by key, what templates make of them and the
/// engine's copies, and the body of the request.
const BOUND: usize = 40;

#[test]
fn a_pass_over_the_largest_payload_holds_a_bounded_multiple_of_it() {
    let mut object = BTreeMap::new();
    while serde_json::to_string(&object).unwrap().len() < LARGEST - 80 {
        object.insert(format!("KEY_{:05}", object.len()), "v".repeat(48));
    }
    let text = serde_json::to_string(&object).unwrap();
    assert!(text.len() <= LARGEST && text.len() > LARGEST - 200);
    let spec: SecretBindingSpec = serde_json::from_value(json!({
        "dataFrom": [{"secret": "app"}],
        "data": [{"key": "whole", "valueFrom": "app"}, {"key": "again", "valueFrom": "app:KEY_00001::"}],
        "target": {"template": {"env": "{{ bindery.keys | dotenv }}"}},
    }))
    .unwrap();
    let binding = Binding::parse(&SecretBinding::new("b", spec)).unwrap();
    let key = FingerprintKey::new(Zeroizing::new([1; 32]));
    drop(object);

    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let size = text.len();
    let source = binding.mapping.sources().into_iter().next().unwrap();
    let payloads = BTreeMap::from([(source, Payload::text(text))]);
    let data = { binding.mapping.render(&payloads).unwrap().data };
    drop(payloads);
    let desired = Desired::new(&binding, data, std::collections::BTreeMap::new(), "inputs", &key);
    let body = bindery::kubernetes::write::body_length(&desired);
    let peak = ALLOCATOR.peak_usage() - before;
    assert!(desired.data.len() > 1000 && body > 3 * size);
    println!("peak of one pass over {size} bytes: {} KiB, {} times the payload", peak / 1024, peak / size);
    assert!(peak < BOUND * size, "{peak} bytes");

    drop(desired);
    drop(binding);
    let kept = ALLOCATOR.current_usage().saturating_sub(before);
    assert!(kept < size, "{kept} bytes stay after the pass");
}
