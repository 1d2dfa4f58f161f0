//! Tables of what versions and labels do.

use super::*;

const START: SystemTime = SystemTime::UNIX_EPOCH;

fn id(number: usize) -> String {
    format!("{number:032}")
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

/// A secret with this many versions, one a minute.
fn secret(versions: usize) -> Secret {
    let mut secret = Secret::new("app", "arn:app", START);
    for number in 1..=versions {
        let minute = Duration::from_secs(60) * u32::try_from(number).unwrap();
        secret.put(&id(number), text(&format!("value {number}")), None, START + minute).unwrap();
    }
    secret
}

/// Where the labels are: `AWSCURRENT=2 AWSPREVIOUS=1`.
fn labels(secret: &Secret) -> String {
    let mut all: Vec<String> = secret
        .versions
        .iter()
        .flat_map(|version| {
            let number = version.id.trim_start_matches('0');
            version.labels.iter().map(move |label| format!("{label}={number}"))
        })
        .collect();
    all.sort();
    all.join(" ")
}

fn code<T>(result: Result<T, Refusal>) -> String {
    result.map_or_else(|refusal| refusal.code.into_owned(), |_| "ok".to_owned())
}

#[test]
fn current_and_previous_follow_the_writes() {
    let mut secret = secret(1);
    assert_eq!(labels(&secret), "AWSCURRENT=1");
    secret.put(&id(2), text("b"), None, START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=2 AWSPREVIOUS=1");
    secret.update(&id(3), text("c"), START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=3 AWSPREVIOUS=2");
    secret.put(&id(4), text("d"), Some(&["mine".to_owned()]), START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=3 AWSPREVIOUS=2 mine=4");
    secret.put(&id(5), text("e"), Some(&["mine".to_owned(), CURRENT.to_owned()]), START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=5 AWSPREVIOUS=3 mine=5");
    secret.put(&id(6), text("f"), None, START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=6 AWSPREVIOUS=5 mine=5", "a label stays on its version");
}

#[test]
fn the_first_version_is_current_whatever_its_labels() {
    let mut secret = secret(0);
    secret.put(&id(1), text("a"), Some(&["mine".to_owned()]), START).unwrap();
    assert_eq!(labels(&secret), "AWSCURRENT=1 mine=1");
}

#[test]
fn a_token_is_used_once() {
    let mut secret = secret(3);
    let before = labels(&secret);
    assert_eq!(code(secret.put(&id(1), text("value 1"), None, START)), "ok");
    assert_eq!(labels(&secret), before, "what is repeated moves nothing");
    assert_eq!(code(secret.put(&id(1), text("other"), None, START)), "ResourceExistsException");
    assert_eq!(code(secret.put(&id(1), Content::Binary("value 1".to_owned()), None, START)), "ResourceExistsException");
    assert_eq!(code(secret.update(&id(1), text("value 1"), START)), "ResourceExistsException");
    assert_eq!((labels(&secret), secret.versions.len()), (before, 3));
}

#[test]
fn moving_a_label_is_a_compare_and_set() {
    const REFUSED: &str = "InvalidParameterException";
    // Two versions, AWSCURRENT=2 AWSPREVIOUS=1, and a third with the label `mine`.
    let cases = [
        (CURRENT, Some(1), Some(2), "ok", "AWSCURRENT=1 AWSPREVIOUS=2 mine=3"),
        (CURRENT, Some(3), Some(2), "ok", "AWSCURRENT=3 AWSPREVIOUS=2 mine=3"),
        (CURRENT, Some(3), Some(1), REFUSED, ""),
        (CURRENT, Some(3), None, REFUSED, ""),
        (CURRENT, Some(2), None, "ok", "AWSCURRENT=2 AWSPREVIOUS=1 mine=3"),
        (CURRENT, Some(2), Some(2), "ok", "AWSCURRENT=2 AWSPREVIOUS=1 mine=3"),
        (CURRENT, None, Some(2), REFUSED, ""),
        ("mine", Some(1), Some(3), "ok", "AWSCURRENT=2 AWSPREVIOUS=1 mine=1"),
        ("mine", Some(1), None, REFUSED, ""),
        ("mine", None, Some(3), "ok", "AWSCURRENT=2 AWSPREVIOUS=1"),
        ("mine", None, Some(1), REFUSED, ""),
        ("new", Some(1), None, "ok", "AWSCURRENT=2 AWSPREVIOUS=1 mine=3 new=1"),
        ("mine", Some(9), Some(3), REFUSED, ""),
        ("mine", None, None, REFUSED, ""),
    ];
    for (label, to, from, verdict, after) in cases {
        let mut secret = secret(2);
        secret.put(&id(3), text("c"), Some(&["mine".to_owned()]), START).unwrap();
        let (before, changed) = (labels(&secret), secret.changed);
        let later = START + KEPT_FOR;
        let result = secret.move_label(label, to.map(id).as_deref(), from.map(id).as_deref(), later);
        assert_eq!(code(result), verdict, "{label} to {to:?} from {from:?}");
        let expected = if verdict == "ok" { after } else { &before };
        assert_eq!(labels(&secret), expected, "{label} to {to:?} from {from:?}");
        assert_eq!(secret.changed == later, verdict == "ok" && changed != later);
    }
}

#[test]
fn reads_go_by_version_by_label_or_to_the_current_one() {
    let mut secret = secret(3);
    secret.put(&id(4), text("d"), Some(&["mine".to_owned()]), START).unwrap();
    let read = |version: Option<usize>, label: Option<&str>| {
        let read = secret.read(version.map(id).as_deref(), label);
        read.map_or_else(|refusal| refusal.code.into_owned(), |version| version.id.trim_start_matches('0').to_owned())
    };
    assert_eq!(read(None, None), "3");
    assert_eq!(read(None, Some(PREVIOUS)), "2");
    assert_eq!(read(None, Some("mine")), "4");
    assert_eq!(read(Some(1), None), "1", "a version without a label is there until it is collected");
    assert_eq!(read(Some(2), Some(PREVIOUS)), "2");
    assert_eq!(read(Some(2), Some(CURRENT)), "InvalidRequestException");
    assert_eq!(read(Some(9), None), "ResourceNotFoundException");
    assert_eq!(read(None, Some("other")), "ResourceNotFoundException");
    let empty = Secret::new("app", "arn:app", START).read(None, None).unwrap_err();
    assert_eq!(empty.message, "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT");
}

#[test]
fn a_secret_has_twenty_labels_at_most() {
    let mut secret = secret(2);
    for number in 3..=MOST_LABELS {
        secret.move_label(&format!("label-{number}"), Some(&id(1)), None, START).unwrap();
    }
    let before = labels(&secret);
    assert_eq!(code(secret.move_label("one-more", Some(&id(1)), None, START)), "LimitExceededException");
    assert_eq!(code(secret.put(&id(3), text("c"), Some(&["one-more".to_owned()]), START)), "LimitExceededException");
    assert_eq!((labels(&secret), secret.versions.len()), (before, 2));
    assert_eq!(code(secret.put(&id(3), text("c"), None, START)), "ok", "labels that move need no room");
    assert_eq!(code(secret.move_label("label-3", Some(&id(2)), Some(&id(1)), START)), "ok");
}

#[test]
fn the_previous_label_counts_before_it_is_there() {
    let mut secret = secret(1);
    for number in 2..=MOST_LABELS {
        secret.move_label(&format!("label-{number}"), Some(&id(1)), None, START).unwrap();
    }
    assert_eq!(code(secret.put(&id(2), text("b"), None, START)), "LimitExceededException");
}

#[test]
fn versions_without_a_label_are_collected_after_a_day_beyond_the_newest_hundred() {
    let mut secret = secret(150);
    secret.move_label("kept", Some(&id(1)), None, START).unwrap();
    let day_after = |number: usize| START + Duration::from_secs(60) * u32::try_from(number).unwrap() + KEPT_FOR;
    let left =
        |secret: &Secret| -> Vec<usize> { secret.versions.iter().map(|version| version.id.parse().unwrap()).collect() };
    secret.collect(day_after(1));
    assert_eq!(left(&secret).len(), 150, "the first has a label, the second is a minute younger than a day");
    secret.collect(day_after(10));
    assert_eq!(left(&secret), [vec![1], (11..=150).collect()].concat());
    secret.collect(day_after(1000));
    assert_eq!(left(&secret), [vec![1], (51..=150).collect()].concat(), "a hundred stay, and what has a label");
    assert_eq!(code(secret.read(Some(&id(1)), None)), "ok");
    assert_eq!(code(secret.read(Some(&id(2)), None)), "ResourceNotFoundException");
}

#[test]
fn nothing_is_done_with_a_secret_that_waits_for_its_deletion() {
    let mut secret = secret(2);
    secret.deletion = Some(Deletion { requested: START, ends: START + KEPT_FOR });
    for refused in [
        code(secret.read(None, None).map(|_| ())),
        code(secret.put(&id(3), text("c"), None, START)),
        code(secret.update(&id(3), text("c"), START)),
        code(secret.move_label(CURRENT, Some(&id(1)), Some(&id(2)), START)),
    ] {
        assert_eq!(refused, "InvalidRequestException");
    }
}
