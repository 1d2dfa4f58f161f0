//! All sources, and what their paths lead to.
//!
//! A `use` within a function counts as one of its module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::collect::{Collected, collect};
use crate::model::{Kind, Module, ModulePath};

/// The name by which `main.rs` calls the library.
const CRATE: &str = "bindery";

/// The sources below `src`.
pub struct Program {
    /// The number of lines of each file, tests included.
    pub lines: BTreeMap<String, usize>,
    /// Every module that is not there for tests only.
    pub modules: BTreeMap<ModulePath, Module>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Item {
        module: ModulePath,
        name: String,
    },
    Module(ModulePath),
    /// A path into another crate.
    External(Vec<String>),
}

/// A target, and the modules that it is re-exported by on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub target: Target,
    pub through: Vec<ModulePath>,
}

/// The imports that were followed so far.
type Trail = Vec<(ModulePath, String)>;

impl Program {
    /// Reads the files below this folder.
    pub fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(root, root, &mut files);
        Self::of(files.iter().map(|(path, text)| (path.as_str(), text.as_str())))
    }

    /// Takes the files by their path below `src`.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut collected = Collected::default();
        let mut lines = BTreeMap::new();
        for (file, text) in files {
            lines.insert(file.to_owned(), text.lines().count());
            let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file} does not parse: {error}"));
            collect(file, module_of(file), &syntax, &mut collected);
        }
        let tests: BTreeSet<_> = collected.tests.difference(&collected.program).cloned().collect();
        let is_test = |module: &ModulePath| (1..=module.len()).any(|length| tests.contains(&module[..length]));
        let mut modules: BTreeMap<ModulePath, Module> =
            collected.modules.into_iter().filter(|(path, _)| !is_test(path)).collect();
        for path in modules.keys().cloned().collect::<Vec<_>>() {
            // A small source of an example has no file for the module above it.
            (0..path.len()).for_each(|length| _ = modules.entry(path[..length].to_vec()).or_default());
        }
        Self { lines, modules }
    }

    /// The files of the program, without those that are there for tests only.
    pub fn files(&self) -> BTreeSet<&str> {
        self.modules.values().map(|module| module.file.as_str()).filter(|file| !file.is_empty()).collect()
    }

    pub fn file_of(&self, module: &[String]) -> &str {
        self.modules.get(module).map_or("", |module| module.file.as_str())
    }

    /// The type that a path names, with aliases followed to it.
    pub fn resolve_type(&self, from: &[String], path: &[String]) -> Vec<Target> {
        let mut found = Vec::new();
        let mut next = vec![(from.to_vec(), path.to_vec(), 0)];
        while let Some((from, path, depth)) = next.pop() {
            for target in self.resolve(&from, &path).into_iter().map(|found| found.target) {
                match self.alias(&target) {
                    Some(alias) if depth < 8 && !alias.is_empty() => {
                        let Target::Item { module, .. } = &target else { continue };
                        next.push((module.clone(), alias.to_vec(), depth + 1));
                    }
                    _ => found.push(target),
                }
            }
        }
        found
    }

    /// The path that the alias stands for.
    fn alias(&self, target: &Target) -> Option<&[String]> {
        let Target::Item { module, name } = target else { return None };
        let items = self.modules.get(module)?.items.get(name)?;
        items.iter().find(|item| item.kind == Kind::Alias)?.alias.as_ref().map(|shape| shape.path.as_slice())
    }

    /// All that a path can mean in a module.
    pub fn resolve(&self, from: &[String], path: &[String]) -> Vec<Found> {
        self.resolve_on(from, path, &mut Trail::new())
    }

    fn resolve_on(&self, from: &[String], path: &[String], trail: &mut Trail) -> Vec<Found> {
        let Some((head, rest)) = path.split_first() else { return Vec::new() };
        match head.as_str() {
            "" => external(rest),
            "Self" => Vec::new(),
            "crate" if self.file_of(from) == "main.rs" => self.walk(&from[..1], rest, trail),
            "crate" => self.walk(&[], rest, trail),
            // Alone, it is a variable.
            CRATE if !rest.is_empty() => self.walk(&[], rest, trail),
            "self" => self.walk(from, rest, trail),
            "super" => {
                let parent = &from[..from.len().saturating_sub(1)];
                match rest.first().map(String::as_str) {
                    Some("super") => self.resolve_on(parent, rest, trail),
                    _ => self.walk(parent, rest, trail),
                }
            }
            _ => {
                let found = self.look_up(from, path, trail);
                if found.is_empty() { external(path) } else { found }
            }
        }
    }

    /// Goes down from a module.
    fn walk(&self, module: &[String], path: &[String], trail: &mut Trail) -> Vec<Found> {
        let Some(name) = path.first().filter(|name| *name != "*") else {
            return one(Target::Module(module.to_vec()));
        };
        let found = self.look_up(module, path, trail);
        // A macro may have made it.
        if found.is_empty() { one(Target::Item { module: module.to_vec(), name: name.clone() }) } else { found }
    }

    /// What a module knows by the first name of the path.
    fn look_up(&self, at: &[String], path: &[String], trail: &mut Trail) -> Vec<Found> {
        let (Some(module), Some((name, rest))) = (self.modules.get(at), path.split_first()) else { return Vec::new() };
        let mut found = Vec::new();
        let child = join(at, std::slice::from_ref(name));
        if self.modules.contains_key(&child) {
            found.extend(self.walk(&child, rest, trail));
        }
        let items = module.items.get(name).map(Vec::as_slice).unwrap_or_default();
        if items.iter().any(|item| item.kind != Kind::Module && (rest.is_empty() || item.kind != Kind::Other)) {
            found.extend(one(Target::Item { module: at.to_vec(), name: name.clone() }));
        }
        for import in module.imports.get(name).into_iter().flatten() {
            let resolve = |trail: &mut Trail| self.resolve_on(at, &join(import, rest), trail);
            found.extend(follow(at, name.clone(), trail, resolve));
        }
        if found.is_empty() {
            for glob in &module.globs {
                let resolve = |trail: &mut Trail| self.look_up_in_glob(at, glob, path, trail);
                found.extend(follow(at, format!("{}::*", glob.join("::")), trail, resolve));
            }
        }
        found
    }

    fn look_up_in_glob(&self, at: &[String], glob: &[String], path: &[String], trail: &mut Trail) -> Vec<Found> {
        let mut found = Vec::new();
        for source in self.resolve_on(at, glob, trail) {
            if let Target::Module(module) = source.target {
                found.extend(self.look_up(&module, path, trail));
            }
        }
        found
    }
}

/// Follows an import of a module, unless it is being followed already.
fn follow(
    at: &[String],
    import: String,
    trail: &mut Trail,
    resolve: impl FnOnce(&mut Trail) -> Vec<Found>,
) -> Vec<Found> {
    let step = (at.to_vec(), import);
    if trail.contains(&step) {
        return Vec::new();
    }
    trail.push(step);
    let mut found = resolve(trail);
    trail.pop();
    for one in &mut found {
        one.through.push(at.to_vec());
    }
    found
}

fn one(target: Target) -> Vec<Found> {
    vec![Found { target, through: Vec::new() }]
}

fn external(path: &[String]) -> Vec<Found> {
    one(Target::External(path.to_vec()))
}

fn join(path: &[String], rest: &[String]) -> Vec<String> {
    path.iter().chain(rest).cloned().collect()
}

/// The module that a file holds.
fn module_of(file: &str) -> ModulePath {
    let mut module: ModulePath = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || file == "lib.rs" {
        module.pop();
    }
    module
}

fn read_folder(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}
