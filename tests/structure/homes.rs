//! The name of a public type stands for one type.

use std::collections::BTreeMap;

use crate::model::Kind;
use crate::program::Program;
use crate::rules::{Replaced, Violation, once_each};

pub fn check(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let mut homes: BTreeMap<&str, BTreeMap<&[String], (&str, usize)>> = BTreeMap::new();
    for (path, module) in &program.modules {
        for (name, items) in &module.items {
            for item in items.iter().filter(|item| item.public && matches!(item.kind, Kind::Type | Kind::Alias)) {
                homes.entry(name).or_default().insert(path, (&module.file, item.line));
            }
        }
    }
    let mut violations = Vec::new();
    for (name, homes) in homes.iter().filter(|(_, homes)| homes.len() > 1) {
        for (file, line) in homes.values() {
            let mut others: Vec<_> = homes.values().map(|(other, _)| *other).collect();
            others.retain(|other| other != file);
            let text = format!("`{name}` is also in {}. Name each for what it is.", others.join(", "));
            violations.push(Violation::new(format!("{file} {name}"), (file, *line), text));
        }
    }
    once_each(violations)
}
