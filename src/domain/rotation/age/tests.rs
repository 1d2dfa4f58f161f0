use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::api::{RotationRule, RotationStatus};
use crate::domain::rotation::backfill::{Backfill, BackfillEnd};
use crate::domain::secret::reference::VersionSelector;

pub fn key(byte: u8) -> FingerprintKey {
    FingerprintKey::new(Zeroizing::new([byte; 32]))
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn rule(name: &str, keys: &[&str]) -> Rule {
    let keys = keys.iter().map(ToString::to_string).collect();
    let manifest =
        RotationRule { name: name.to_owned(), keys, every: Some("7d".to_owned()), ..RotationRule::default() };
    Rule::parse(&manifest).unwrap()
}

fn source() -> Source {
    Source { secret: "app".parse().unwrap(), version: VersionSelector::default() }
}

pub fn mapping() -> Mapping {
    let extract = crate::domain::render::mapping::Extract {
        source: source(),
        include: vec![],
        exclude: vec![],
        prefix: String::new(),
        key_format: crate::domain::render::key::KeyFormat::AsIs,
    };
    Mapping { data_from: vec![extract], ..Mapping::default() }
}

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf";

pub fn version(id: &str, second: i64) -> VersionRef {
    VersionRef { arn: ARN.to_owned(), name: "app".to_owned(), version_id: id.to_owned(), created: Some(at(second)) }
}

/// What the rules see in a payload that was made at `second`.
pub fn see(
    rules: &[Rule],
    mapping: &Mapping,
    payload: &str,
    second: i64,
    key: &FingerprintKey,
) -> BTreeMap<String, ObservedKey> {
    let payload = Payload::text(payload.to_owned());
    let selected = mapping.select(|_| Some(&payload), &|_, _| true).unwrap();
    let versions = BTreeMap::from([(source(), version(&format!("v{second}"), second))]);
    let read = ReadValues { selected: &selected, versions: &versions, published: None };
    observed_keys(rules, mapping, read, "shop", key)
}

/// The same beside a Secret with `published` as its data.
fn see_over(
    rules: &[Rule],
    payload: &str,
    second: i64,
    published: &BTreeMap<String, Value>,
    key: &FingerprintKey,
) -> BTreeMap<String, ObservedKey> {
    let (payload, mapping) = (Payload::text(payload.to_owned()), mapping());
    let selected = mapping.select(|_| Some(&payload), &|_, _| true).unwrap();
    let versions = BTreeMap::from([(source(), version(&format!("v{second}"), second))]);
    let read = ReadValues { selected: &selected, versions: &versions, published: Some(published) };
    observed_keys(rules, &mapping, read, "shop", key)
}

pub fn aged(
    before: &BTreeMap<String, KeyAge>,
    observed: BTreeMap<String, ObservedKey>,
    key: &FingerprintKey,
) -> AgeUpdate {
    update(before, &BTreeMap::new(), observed, true, key)
}

pub fn time(aged: &BTreeMap<String, KeyAge>, key: &str) -> Option<(i64, bool)> {
    let age = aged.get(key)?;
    Some((age.last_rotated_time.as_ref()?.0.as_second() - 1_700_000_000, age.at_least))
}

/// The records after a first read whose backfill found nothing older.
fn first(rules: &[Rule], payload: &str, second: i64, key: &FingerprintKey) -> BTreeMap<String, KeyAge> {
    let found = aged(&BTreeMap::new(), see(rules, &mapping(), payload, second, key), key);
    let mut records = found.records;
    records.extend(Backfill::new(&found.unknown).end(BackfillEnd::Beginning));
    records
}

#[test]
fn a_change_of_the_value_is_a_change_and_one_of_another_key_is_none() {
    let (rules, key) = ([rule("r", &["A", "B"])], key(1));
    let before = first(&rules, r#"{"A": "1", "B": "1", "C": "1"}"#, 0, &key);
    assert_eq!((time(&before, "A"), time(&before, "B")), (Some((0, false)), Some((0, false))));
    let other = aged(&before, see(&rules, &mapping(), r#"{"A": "1", "B": "1", "C": "2"}"#, 10, &key), &key);
    assert_eq!((&other.records, other.changed.len()), (&before, 0));
    let changed = aged(&before, see(&rules, &mapping(), r#"{"A": "2", "B": "1", "C": "2"}"#, 20, &key), &key);
    assert_eq!((time(&changed.records, "A"), time(&changed.records, "B")), (Some((20, false)), Some((0, false))));
    assert_eq!(changed.changed, BTreeSet::from(["A".to_owned()]));
    // An old value that comes back is a change too.
    let reverted = aged(&changed.records, see(&rules, &mapping(), r#"{"A": "1", "B": "1"}"#, 30, &key), &key);
    assert_eq!(time(&reverted.records, "A"), Some((30, false)));
}

#[test]
fn an_age_stays_with_its_key_whatever_rule_names_it() {
    let key = key(1);
    let known = first(&[rule("old", &["A", "B"])], r#"{"A": "1", "B": "1"}"#, 0, &key);
    let of = |name: &str| known.get(name).cloned().into_iter().collect();
    let status = SecretBindingStatus {
        rotation: vec![
            RotationStatus { name: "old".to_owned(), keys: of("A"), ..RotationStatus::default() },
            RotationStatus { name: "gone".to_owned(), keys: of("B"), ..RotationStatus::default() },
        ],
        ..SecretBindingStatus::default()
    };
    let moved = [rule("new", &["B", "A"])];
    assert!(!needs_read(&moved, &status, &BTreeMap::new(), &key));
    let after = aged(&records(&status), see(&moved, &mapping(), r#"{"A": "1", "B": "1"}"#, 9, &key), &key);
    assert_eq!(after.records, known);
    assert!(needs_read(&[rule("new", &["A", "C"])], &status, &BTreeMap::new(), &key), "C is newly ruled");
    assert!(!needs_read(&[], &SecretBindingStatus::default(), &BTreeMap::new(), &key));
}

#[test]
fn a_key_that_is_not_there_is_looked_for_once_and_its_coming_is_a_change() {
    let (rules, key) = ([rule("r", &["A"])], key(1));
    let absent = aged(&BTreeMap::new(), see(&rules, &mapping(), r#"{"B": "1"}"#, 0, &key), &key);
    assert_eq!((absent.records["A"].fingerprint.as_str(), time(&absent.records, "A")), ("", None));
    let rotation = vec![RotationStatus {
        name: "r".to_owned(),
        keys: absent.records.values().cloned().collect(),
        ..RotationStatus::default()
    }];
    let status = SecretBindingStatus { rotation, ..SecretBindingStatus::default() };
    assert!(!needs_read(&rules, &status, &BTreeMap::new(), &key));
    let there = aged(&absent.records, see(&rules, &mapping(), r#"{"A": "1"}"#, 5, &key), &key);
    assert_eq!(time(&there.records, "A"), Some((5, false)));
}

#[test]
fn the_loss_of_the_fingerprint_key_alone_is_no_change() {
    let rules = [rule("r", &["A", "B"])];
    let before = first(&rules, r#"{"A": "1", "B": "1"}"#, 0, &key(1));
    let published = BTreeMap::from([("A".to_owned(), Value::from("1")), ("B".to_owned(), Value::from("0"))]);
    let seen = || see_over(&rules, r#"{"A": "1", "B": "1"}"#, 50, &published, &key(2));
    let after = update(&before, &BTreeMap::new(), seen(), true, &key(2));
    assert_eq!(time(&after.records, "A"), Some((0, false)), "the same value is published");
    assert_eq!(time(&after.records, "B"), Some((50, false)), "another value is published, so this one is new");
    assert!(after.records.values().all(|age| key(2).made(&age.fingerprint)));
    // Where the Secret is gone too, nothing shows a change.
    let gone = see(&rules, &mapping(), r#"{"A": "1", "B": "1"}"#, 50, &key(2));
    let after = update(&before, &BTreeMap::new(), gone, true, &key(2));
    assert_eq!((time(&after.records, "A"), time(&after.records, "B")), (Some((0, false)), Some((0, false))));
    // If it cannot be read, the comparison waits.
    let after = update(&before, &BTreeMap::new(), seen(), false, &key(2));
    assert_eq!(after.records, before);
}

#[test]
fn a_key_that_a_template_makes_has_the_age_of_the_newest_version() {
    let texts = BTreeMap::from([("DSN".to_owned(), "x{{ A }}".to_owned())]);
    let mapping = Mapping { template: Some(Template::parse(&texts).unwrap()), ..mapping() };
    let (rules, key) = ([rule("r", &["DSN"])], key(1));
    let first = aged(&BTreeMap::new(), see(&rules, &mapping, r#"{"A": "1"}"#, 3, &key), &key);
    assert_eq!(time(&first.records, "DSN"), Some((3, true)), "older versions are not read");
    let same = aged(&first.records, see(&rules, &mapping, r#"{"A": "1", "B": "2"}"#, 7, &key), &key);
    assert_eq!(same.records, first.records);
    let other = aged(&first.records, see(&rules, &mapping, r#"{"A": "2"}"#, 9, &key), &key);
    assert_eq!(time(&other.records, "DSN"), Some((9, false)));
}

#[test]
fn a_fingerprint_depends_on_all_that_keeps_tenants_apart() {
    let value = Value::from("v");
    let base = fingerprint(&key(1), "n", "arn", Some("k"), &value);
    for other in [
        fingerprint(&key(2), "n", "arn", Some("k"), &value),
        fingerprint(&key(1), "m", "arn", Some("k"), &value),
        fingerprint(&key(1), "n", "nra", Some("k"), &value),
        fingerprint(&key(1), "n", "arn", Some("l"), &value),
        fingerprint(&key(1), "n", "arn", None, &value),
        fingerprint(&key(1), "n", "arn", Some("k"), &Value::from("w")),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn a_member_that_the_grant_does_not_allow_is_not_looked_at() {
    let (rules, key) = ([rule("r", &["A"])], key(1));
    let found = aged(&BTreeMap::new(), see(&rules, &mapping(), r#"{"A": "x"}"#, 0, &key), &key);
    let payload = Payload::text(r#"{"A": "x"}"#.to_owned());
    let in_it = |allowed: bool| found.unknown["A"].trace.fingerprint_in(&payload, "shop", &|_| allowed, &key);
    assert_eq!(in_it(true).as_deref(), Some(found.unknown["A"].fingerprint.as_str()));
    assert_eq!(in_it(false), None);
}

#[test]
fn a_change_before_the_walk_has_ended_needs_no_walk() {
    let (rules, key) = ([rule("r", &["A"])], key(1));
    let found = aged(&BTreeMap::new(), see(&rules, &mapping(), r#"{"A": "x"}"#, 0, &key), &key);
    let same = see(&rules, &mapping(), r#"{"A": "x", "B": ""}"#, 5, &key);
    let still = update(&BTreeMap::new(), &found.unknown, same, true, &key);
    assert_eq!(still.unknown["A"].trace.version.version_id, "v5", "the backfill begins at the newest version");
    let other = see(&rules, &mapping(), r#"{"A": "y"}"#, 9, &key);
    let changed = update(&BTreeMap::new(), &found.unknown, other, true, &key);
    assert_eq!((time(&changed.records, "A"), changed.unknown.len()), (Some((9, false)), 0));
}

proptest! {
    /// Whatever versions come, each key's time is that of the last version in which its value differs from the one
    /// before, and reads in between change nothing.
    #[test]
    fn the_age_is_that_of_the_last_change(
        versions in prop::collection::vec((0u8..3, 0u8..3, 1usize..3), 1..40),
    ) {
        let (rules, key) = ([rule("r", &["A"]), rule("s", &["B"])], key(1));
        let (a, b, _) = versions[0];
        let mut records = first(&rules, &format!(r#"{{"A": "{a}", "B": "{b}"}}"#), 0, &key);
        let (mut expected, mut last) = ((0, 0), (a, b));
        for (number, (a, b, reads)) in versions.iter().copied().enumerate().skip(1) {
            let second = i64::try_from(number).unwrap() * 10;
            if a != last.0 { expected.0 = second }
            if b != last.1 { expected.1 = second }
            last = (a, b);
            for _ in 0..reads {
                let payload = format!(r#"{{"A": "{a}", "B": "{b}", "C": "{number}"}}"#);
                records = aged(&records, see(&rules, &mapping(), &payload, second, &key), &key).records;
            }
            prop_assert_eq!(time(&records, "A"), Some((expected.0, false)));
            prop_assert_eq!(time(&records, "B"), Some((expected.1, false)));
        }
    }
}
