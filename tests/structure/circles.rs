//! No circle of files, and no import of a parent's items.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::imports::{Import, Way, imports};
use crate::program::Program;
use crate::rules::{Replaced, Violation, once_each};

/// The files that each file uses items of.
type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Every import that is part of a circle.
pub fn check(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    let imports = counted(program, replaced);
    let mut graph = Graph::new();
    for import in &imports {
        graph.entry(&import.from).or_default().insert(&import.to);
    }
    let mut violations = Vec::new();
    for Import { from, to, item, line, .. } in &imports {
        if let Some(back) = way(&graph, to, from) {
            let circle = back.join(" -> ");
            let text = format!("`{item}` closes {from} -> {circle}. Move what both sides need into a file of its own.");
            violations.push(Violation::new(format!("{from} -> {to}"), (from, *line), text));
        }
    }
    once_each(violations)
}

/// Every import of an item that the file of a module further up defines.
pub fn check_parents(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    let mut modules: BTreeMap<&str, &[String]> = BTreeMap::new();
    for (path, module) in &program.modules {
        // The shortest path is the file's own; others are modules in it.
        modules.entry(&module.file).or_insert(path);
    }
    let mut violations = Vec::new();
    for Import { from, to, item, line, .. } in counted(program, replaced) {
        if modules[from.as_str()].starts_with(modules[to.as_str()]) {
            let text = format!("`{item}` stands in the parent {to}. Move it into a file beside this one.");
            violations.push(Violation::new(format!("{from} -> {to} {item}"), (&from, line), text));
        }
    }
    once_each(violations)
}

fn counted(program: &Program, replaced: Replaced<'_>) -> Vec<Import> {
    let is_exempt = |file: &str| replaced.contains(&file);
    let counts = |import: &Import| import.way == Way::Item && !is_exempt(&import.from) && !is_exempt(&import.to);
    imports(program).into_iter().filter(counts).collect()
}

/// The shortest way from one file to another, both included.
fn way<'a>(graph: &Graph<'a>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::from([(from, from)]);
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        if file == to {
            let mut way = vec![file];
            while way[0] != from {
                way.insert(0, before[way[0]]);
            }
            return Some(way);
        }
        for after in graph.get(file).into_iter().flatten() {
            if !before.contains_key(after) {
                before.insert(after, file);
                next.push_back(after);
            }
        }
    }
    None
}
