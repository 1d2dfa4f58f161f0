//! How findings are held against the lists.

use super::program;
use crate::rules::{FILES, LAYERS, Rule, complaint, listed};

const UPWARD: (&str, &str) = ("domain/a.rs", "\nuse crate::controller::watch::Watch;\n");
const WATCH: (&str, &str) = ("controller/watch.rs", "pub struct Watch;");
const KEY: &str = "domain/a.rs -> controller/watch.rs Watch";

fn complaint_with(known: &'static [&'static str], files: super::Files<'_>) -> String {
    let rule = Rule { known, ..LAYERS };
    complaint(&rule, &(rule.check)(&program(files), &[]))
}

#[test]
fn what_is_not_listed_is_reported_with_its_place() {
    let complaint = complaint_with(&[], &[UPWARD, WATCH]);
    assert_eq!(
        complaint,
        "src/domain/a.rs:2: A file imports its own layer or lower ones. `Watch` of controller/watch.rs is higher. Move \
         it down, or move what needs it up.\n"
    );
}

#[test]
fn what_is_listed_passes_while_it_is_there() {
    assert_eq!(complaint_with(&[KEY], &[UPWARD, WATCH]), "");
    let complaint = complaint_with(&[KEY], &[WATCH]);
    assert!(complaint.contains("UPWARD_IMPORTS") && complaint.contains(KEY), "{complaint}");
    assert!(complaint.ends_with("Take it from the list.\n"), "{complaint}");
}

#[test]
fn the_lists_are_printed_as_they_are_written() {
    let found = (LAYERS.check)(&program(&[UPWARD, WATCH]), &[]);
    let text = listed(&[(&LAYERS, found), (&FILES, Vec::new())], &["domain/old.rs"]);
    for line in [
        "//! What breaks the rules today",
        "pub const REPLACED_BY_ROTATION: &[&str] = &[\"domain/old.rs\"];",
        "pub const UPWARD_IMPORTS: &[&str] = &[\"domain/a.rs -> controller/watch.rs Watch\"];",
        "pub const LONG_FILES: &[&str] = &[];",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
