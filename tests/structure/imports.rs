//! Which file imports what from which file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::Kind;
use crate::program::{Found, Program, Target};

/// What an import says of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The importer uses an item that the other file defines.
    Item,
    /// The importer only names the other file: as a module, or as the one that re-exports the item.
    Name,
}

#[derive(Clone, Debug)]
pub struct Import {
    pub from: String,
    pub to: String,
    pub item: String,
    pub way: Way,
    /// The first line of it.
    pub line: usize,
}

/// Every path of the program with what it leads to.
pub struct Use<'a> {
    pub file: &'a str,
    pub path: &'a [String],
    pub line: usize,
    pub found: Vec<Found>,
}

pub fn uses(program: &Program) -> impl Iterator<Item = Use<'_>> {
    program.modules.iter().flat_map(move |(path, module)| {
        module.mentions.iter().map(move |mention| Use {
            file: &module.file,
            path: &mention.path,
            line: mention.line,
            found: program.resolve(path, &mention.path),
        })
    })
}

/// All imports between files, each once.
pub fn imports(program: &Program) -> Vec<Import> {
    let mut first: BTreeMap<(String, String, String, Way), usize> = BTreeMap::new();
    for one in uses(program) {
        for (to, item, way) in one.found.iter().flat_map(|found| files_of(program, &one, found)) {
            if to != one.file {
                let line = first.entry((one.file.to_owned(), to, item, way)).or_insert(one.line);
                *line = one.line.min(*line);
            }
        }
    }
    first.into_iter().map(|((from, to, item, way), line)| Import { from, to, item, way, line }).collect()
}

/// The files that one path leads to.
fn files_of(program: &Program, one: &Use<'_>, found: &Found) -> Vec<(String, String, Way)> {
    let is_glob = one.path.last().is_some_and(|last| last == "*");
    let mut files = Vec::new();
    let item = match &found.target {
        Target::Item { module, name } => {
            files.push((program.file_of(module).to_owned(), name.clone(), Way::Item));
            name.clone()
        }
        Target::Module(module) if is_glob => {
            let way = if defines_items(program, module) { Way::Item } else { Way::Name };
            files.push((program.file_of(module).to_owned(), "*".to_owned(), way));
            "*".to_owned()
        }
        Target::Module(module) => {
            files.push((program.file_of(module).to_owned(), "self".to_owned(), Way::Name));
            "self".to_owned()
        }
        Target::External(path) => path.last().cloned().unwrap_or_default(),
    };
    files.extend(found.through.iter().map(|module| (program.file_of(module).to_owned(), item.clone(), Way::Name)));
    files.retain(|(file, ..)| !file.is_empty());
    files
}

fn defines_items(program: &Program, module: &[String]) -> bool {
    program.modules[module].items.values().flatten().any(|item| item.kind != Kind::Module)
}

/// The folder or file directly below `src`.
pub fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// How many items each top folder imports from which other: one row for each importer.
pub fn table(program: &Program) -> String {
    let mut items: BTreeSet<(String, String, String)> = BTreeSet::new();
    for import in imports(program).into_iter().filter(|import| import.way == Way::Item) {
        if top(&import.from) != top(&import.to) {
            items.insert((top(&import.from).to_owned(), import.to, import.item));
        }
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (from, to, _) in &items {
        *counts.entry((from, top(to))).or_default() += 1;
    }
    let order = |names: BTreeSet<&str>| {
        let mut names: Vec<_> = names.into_iter().map(str::to_owned).collect();
        names.sort_by_key(|name| (crate::layers::layer(name), name.clone()));
        names
    };
    let rows = order(counts.keys().map(|(from, _)| *from).collect());
    let columns = order(counts.keys().map(|(_, to)| *to).collect());
    let mut table = format!("{:<12}", "");
    for column in &columns {
        write!(table, "{column:>12}").unwrap();
    }
    for row in &rows {
        write!(table, "\n{row:<12}").unwrap();
        for column in &columns {
            let count = counts.get(&(row.as_str(), column.as_str())).map_or(String::new(), usize::to_string);
            write!(table, "{count:>12}").unwrap();
        }
    }
    table
}
