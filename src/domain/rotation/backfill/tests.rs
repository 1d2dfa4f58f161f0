use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::payload::Payload;
use crate::domain::rotation::age::tests::{aged, at, key, mapping, rule, see, time, version};

fn listed(id: &str, second: i64) -> ListedVersion {
    ListedVersion { id: id.to_owned(), stages: BTreeSet::new(), created: Some(at(second)) }
}

/// Backfills from the version at `read` through older versions with the value of `A` at that time; `None` is a version that
/// cannot be read.
fn backfilled(read: i64, older: &[(i64, Option<&str>)], end: BackfillEnd) -> (i64, bool) {
    let (rules, key) = ([rule("r", &["A"])], key(1));
    let found = aged(&BTreeMap::new(), see(&rules, &mapping(), r#"{"A": "x"}"#, read, &key), &key);
    let mut backfill = Backfill::new(&found.unknown);
    for (second, value) in older {
        if backfill.is_done() {
            break;
        }
        match value {
            Some(value) => backfill.add_version(Some(at(*second)), |name| {
                let payload = Payload::text(format!(r#"{{"A": {value:?}}}"#));
                found.unknown[name].trace.fingerprint_in(&payload, "shop", &|_| true, &key)
            }),
            None => backfill.add_gap(),
        }
    }
    time(&backfill.end(end), "A").unwrap()
}

#[test]
fn a_walk_finds_the_version_that_brought_the_value() {
    assert_eq!(backfilled(50, &[(40, Some("x")), (30, Some("x")), (20, Some("y"))], BackfillEnd::Beyond), (30, false));
    assert_eq!(
        backfilled(50, &[(40, Some("y")), (30, Some("x"))], BackfillEnd::Beyond),
        (50, false),
        "an older spell does not count"
    );
    assert_eq!(backfilled(50, &[(40, Some("x"))], BackfillEnd::Beginning), (40, false));
    assert_eq!(backfilled(50, &[(40, Some("x"))], BackfillEnd::Beyond), (40, true));
    assert_eq!(backfilled(50, &[], BackfillEnd::Beyond), (50, true));
    assert_eq!(
        backfilled(50, &[(40, None), (30, Some("y"))], BackfillEnd::Beyond),
        (50, true),
        "it may be of the version between"
    );
    assert_eq!(backfilled(50, &[(40, None), (30, Some("x")), (20, Some("y"))], BackfillEnd::Beyond), (30, false));
    assert_eq!(backfilled(50, &[(40, None)], BackfillEnd::Beginning), (50, true));
}

#[test]
fn twenty_older_versions_are_looked_through_and_the_first_one_is_known_by_the_secret() {
    let history: Vec<ListedVersion> = (0..30).rev().map(|n| listed(&format!("v{n}"), n * 10)).collect();
    let read = version("v25", 250);
    let back = older_versions(&history, &read);
    assert_eq!(back.len(), MOST_VERSIONS);
    assert_eq!((back[0].id.as_str(), back[19].id.as_str()), ("v24", "v5"));
    assert_eq!(backfill_end(&history, &back, &read, Some(at(50))), BackfillEnd::Beyond, "five more are older");
    let read = version("v3", 30);
    let back = older_versions(&history, &read);
    assert_eq!(back.len(), 3);
    assert_eq!(backfill_end(&history, &back, &read, Some(at(0))), BackfillEnd::Beginning);
    assert_eq!(backfill_end(&history, &back, &read, Some(at(-100))), BackfillEnd::Beyond, "older ones are gone");
    assert_eq!(backfill_end(&history, &back, &read, None), BackfillEnd::Beyond);
}

proptest! {
    /// A backfill over any history finds what watching it from the beginning would have found.
    #[test]
    fn a_walk_agrees_with_having_watched(values in prop::collection::vec(0u8..3, 1..18)) {
        let mut since = 0;
        for (number, pair) in values.windows(2).enumerate() {
            if pair[0] != pair[1] { since = (number + 1) * 10 }
        }
        let (newest, before) = values.split_last().unwrap();
        let texts: Vec<String> = before.iter().map(|value| if value == newest { "x".to_owned() } else { value.to_string() }).collect();
        let older: Vec<(i64, Option<&str>)> = texts.iter().enumerate().rev()
            .map(|(number, value)| (i64::try_from(number).unwrap() * 10, Some(value.as_str()))).collect();
        let read = i64::try_from(before.len()).unwrap() * 10;
        prop_assert_eq!(backfilled(read, &older, BackfillEnd::Beginning), (i64::try_from(since).unwrap(), false));
    }
}
