//! Small sources that break a rule, each beside one that does not.

mod imports;
mod lists;
mod paths;
mod places;
mod pure;
mod requests;
mod sizes;

use crate::program::Program;
use crate::rules::Rule;

type Files<'a> = &'a [(&'a str, &'a str)];

fn program(files: Files<'_>) -> Program {
    Program::of(files.iter().copied())
}

/// The keys of what breaks the rule.
fn keys(rule: &Rule, files: Files<'_>, replaced: &[&str]) -> Vec<String> {
    (rule.check)(&program(files), replaced).into_iter().map(|violation| violation.key).collect()
}

fn breaks(rule: &Rule, files: Files<'_>, expected: &[&str]) {
    assert_eq!(keys(rule, files, &[]), expected, "{}", rule.says);
}

fn keeps(rule: &Rule, files: Files<'_>) {
    breaks(rule, files, &[]);
}
