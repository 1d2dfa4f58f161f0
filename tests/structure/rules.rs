//! The rules, what they find, and how that is held against the lists of what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::known;
use crate::program::Program;
use crate::{circles, homes, impls, layers, pure, requests, sizes};

/// How `known.rs` begins.
const HEAD: &str = "\
//! What breaks the rules today, by file and item. The lists only shrink: an entry that is there no more fails the test.
//!
//! `BINDERY_STRUCTURE_LIST=1 cargo test --test structure prints_the_lists -- --nocapture` prints this file anew;
//! `| sed '1,/^running/d;/^test /,$d'` takes the lines of the test runner off.
";
const REPLACED_SAYS: &str =
    "Files that SecretRotation replaces. The rules on sizes, circles and writes leave them out.";

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Names it in the list of what is known: file and item, without line numbers.
    pub key: String,
    pub file: String,
    pub line: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

/// The files that a rule leaves out.
pub type Replaced<'a> = &'a [&'a str];

pub struct Rule {
    /// The name of its list in `known.rs`.
    pub list: &'static str,
    pub says: &'static str,
    pub known: &'static [&'static str],
    pub check: fn(&Program, Replaced<'_>) -> Vec<Violation>,
}

pub const LAYERS: Rule = Rule {
    list: "UPWARD_IMPORTS",
    says: "A file imports its own layer or lower ones.",
    known: known::UPWARD_IMPORTS,
    check: layers::check,
};
pub const CIRCLES: Rule = Rule {
    list: "CIRCLES",
    says: "No files import each other in a circle.",
    known: known::CIRCLES,
    check: circles::check,
};
pub const PARENTS: Rule = Rule {
    list: "PARENTS",
    says: "A module imports no item that the file of its parent defines.",
    known: known::PARENTS,
    check: circles::check_parents,
};
pub const IMPLS: Rule = Rule {
    list: "FOREIGN_IMPLS",
    says: "An inherent impl stands in the file of its type.",
    known: known::FOREIGN_IMPLS,
    check: impls::check,
};
pub const PURE: Rule = Rule {
    list: "IMPURE",
    says: "The domain and the pure steps know no client, clock, chance, lock or network.",
    known: known::IMPURE,
    check: pure::check,
};
pub const REQUESTS: Rule = Rule {
    list: "REQUESTS",
    says: "Requests to the API server stand in kubernetes/ and controller/watch.rs.",
    known: known::REQUESTS,
    check: requests::check_requests,
};
pub const WRITES: Rule = Rule {
    list: "WRITES",
    says: "Writes to the API server stand in five files of kubernetes/.",
    known: known::WRITES,
    check: requests::check_writes,
};
pub const PERMITS: Rule = Rule {
    list: "PERMITS",
    says: "A step that observes or plans has no permit and no client that writes.",
    known: known::PERMITS,
    check: requests::check_permits,
};
pub const SDK: Rule =
    Rule { list: "AWS_SDK", says: "The AWS SDK stays in aws/.", known: known::AWS_SDK, check: requests::check_sdk };
pub const HOMES: Rule = Rule {
    list: "HOMONYMS",
    says: "The name of a public type stands for one type.",
    known: known::HOMONYMS,
    check: homes::check,
};
pub const FUNCTIONS: Rule = Rule {
    list: "LONG_FUNCTIONS",
    says: "A function has at most 60 lines.",
    known: known::LONG_FUNCTIONS,
    check: sizes::check_functions,
};
pub const ARGUMENTS: Rule = Rule {
    list: "MANY_ARGUMENTS",
    says: "A function has at most 5 arguments, elements of tuples counted, and no tuple of more than 3.",
    known: known::MANY_ARGUMENTS,
    check: sizes::check_arguments,
};
pub const TYPES: Rule = Rule {
    list: "LARGE_TYPES",
    says: "A type of reconcile/ or controller/ has at most 10 fields and 15 methods.",
    known: known::LARGE_TYPES,
    check: sizes::check_types,
};
pub const FILES: Rule = Rule {
    list: "LONG_FILES",
    says: "A file has at most 449 lines, tests included.",
    known: known::LONG_FILES,
    check: sizes::check_files,
};

/// In the order of `known.rs`.
pub const RULES: [&Rule; 14] = [
    &LAYERS, &CIRCLES, &PARENTS, &IMPLS, &PURE, &REQUESTS, &WRITES, &PERMITS, &SDK, &HOMES, &FUNCTIONS, &ARGUMENTS,
    &TYPES, &FILES,
];

impl Violation {
    pub fn new(key: String, (file, line): (&str, usize), text: String) -> Self {
        Self { key, file: file.to_owned(), line, text }
    }
}

/// Sorts by key; of several violations with one key, the first one stands for all.
pub fn once_each(violations: Vec<Violation>) -> Vec<Violation> {
    let mut by_key: BTreeMap<String, Violation> = BTreeMap::new();
    for violation in violations {
        let first = by_key.entry(violation.key.clone()).or_insert_with(|| violation.clone());
        if (&violation.file, violation.line) < (&first.file, first.line) {
            *first = violation;
        }
    }
    by_key.into_values().collect()
}

/// What is wrong by one rule: what is not listed, and what is listed and there no more. Empty if nothing is.
pub fn complaint(rule: &Rule, found: &[Violation]) -> String {
    let mut text = String::new();
    let known: BTreeSet<&str> = rule.known.iter().copied().collect();
    for violation in found.iter().filter(|violation| !known.contains(violation.key.as_str())) {
        let Violation { file, line, text: what, .. } = violation;
        writeln!(text, "src/{file}:{line}: {} {what}", rule.says).unwrap();
    }
    let keys: BTreeSet<&str> = found.iter().map(|violation| violation.key.as_str()).collect();
    for gone in known.difference(&keys) {
        writeln!(text, "tests/structure/known.rs: {}: \"{gone}\" is there no more. Take it from the list.", rule.list)
            .unwrap();
    }
    text
}

/// The file `known.rs` for what is found now.
pub fn listed(found: &[(&Rule, Vec<Violation>)], replaced: Replaced<'_>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&list("REPLACED_BY_ROTATION", REPLACED_SAYS, replaced.iter().copied()));
    for (rule, violations) in found {
        text.push_str(&list(rule.list, rule.says, violations.iter().map(|violation| violation.key.as_str())));
    }
    text
}

/// One list, as rustfmt lays it out.
fn list<'a>(name: &str, says: &str, keys: impl Iterator<Item = &'a str>) -> String {
    let keys: Vec<_> = keys.map(|key| format!("\"{key}\"")).collect();
    let line = format!("pub const {name}: &[&str] = &[{}];", keys.join(", "));
    let body = if line.len() <= 120 {
        line
    } else {
        format!("pub const {name}: &[&str] = &[\n    {},\n];", keys.join(",\n    "))
    };
    format!("\n/// {says}\n{body}\n")
}
