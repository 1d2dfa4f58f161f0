//! Bounds on functions, types and files.

use std::collections::BTreeMap;

use crate::model::{Function, Item, Kind, Module, Shape};
use crate::program::{Program, Target};
use crate::rules::{Replaced, Violation, once_each};

const LINES_OF_FUNCTION: usize = 60;
const ARGUMENTS: usize = 5;
const ELEMENTS_OF_TUPLE: usize = 3;
const FIELDS: usize = 10;
const METHODS: usize = 15;
const LINES_OF_FILE: usize = 449;

pub fn check_functions(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    functions(program, replaced, |_, function| {
        (function.lines > LINES_OF_FUNCTION)
            .then(|| format!("`{}` has {}. Give each of its steps a function.", function.name, function.lines))
    })
}

pub fn check_arguments(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    functions(program, replaced, |module, function| {
        if function.of_trait {
            return None;
        }
        let shapes = function.parameters.iter().map(|parameter| with_alias(program, module, parameter));
        let (elements, widest): (Vec<_>, Vec<_>) = shapes.unzip();
        let (arguments, widest) = (elements.iter().sum::<usize>(), widest.into_iter().max().unwrap_or_default());
        let cure = "Group what belongs together in a type with names.";
        if arguments > ARGUMENTS {
            Some(format!("`{}` has {arguments}. {cure}", function.name))
        } else {
            (widest > ELEMENTS_OF_TUPLE).then(|| format!("`{}` takes a tuple of {widest}. {cure}", function.name))
        }
    })
}

fn functions(
    program: &Program,
    replaced: Replaced<'_>,
    fault: impl Fn(&[String], &Function) -> Option<String>,
) -> Vec<Violation> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (path, module) in counted(program, replaced) {
        for function in &module.functions {
            if let Some(text) = fault(path, function) {
                let key = format!("{} {}", module.file, function.name);
                // Two implementations of a generic trait give their functions one name.
                let time = times.entry(key.clone()).or_default();
                *time += 1;
                let key = if *time == 1 { key } else { format!("{key} {time}") };
                violations.push(Violation::new(key, (&module.file, function.line), text));
            }
        }
    }
    once_each(violations)
}

/// The elements and the widest tuple of a parameter, also where an alias stands for a tuple.
fn with_alias(program: &Program, module: &[String], parameter: &Shape) -> (usize, usize) {
    let targets = program.resolve(module, &parameter.path);
    let aliases = targets.iter().filter_map(|found| alias(program, &found.target));
    let shapes = aliases.chain([parameter]).map(|shape| (shape.elements, shape.widest));
    shapes.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).unwrap_or_default()
}

fn alias<'a>(program: &'a Program, target: &Target) -> Option<&'a Shape> {
    items(program, target).iter().find_map(|item| item.alias.as_ref())
}

fn items<'a>(program: &'a Program, target: &Target) -> &'a [Item] {
    let Target::Item { module, name } = target else { return &[] };
    program.modules.get(module).and_then(|module| module.items.get(name)).map(Vec::as_slice).unwrap_or_default()
}

pub fn check_types(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    let methods = methods(program);
    let mut violations = Vec::new();
    let is_bounded = |file: &str| file.starts_with("reconcile/") || file.starts_with("controller/");
    for (path, module) in counted(program, replaced).filter(|(_, module)| is_bounded(&module.file)) {
        for (name, items) in &module.items {
            for item in items.iter().filter(|item| item.kind == Kind::Type) {
                let target = Target::Item { module: path.clone(), name: name.clone() };
                let methods = methods.get(&target).copied().unwrap_or_default();
                if item.fields > FIELDS || methods > METHODS {
                    let has = format!("`{name}` has {} fields and {methods} methods.", item.fields);
                    let text = format!("{has} Divide it by who uses what.");
                    violations.push(Violation::new(format!("{} {name}", module.file), (&module.file, item.line), text));
                }
            }
        }
    }
    once_each(violations)
}

/// The methods of each type, over all its inherent impls.
fn methods(program: &Program) -> BTreeMap<Target, usize> {
    let mut methods = BTreeMap::new();
    for (path, module) in &program.modules {
        for implementation in &module.implementations {
            for target in program.resolve_type(path, &implementation.of) {
                *methods.entry(target).or_default() += implementation.methods;
            }
        }
    }
    methods
}

pub fn check_files(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    let long = program.lines.iter().filter(|(file, lines)| **lines > LINES_OF_FILE && !is_replaced(replaced, file));
    let violations = long.map(|(file, lines)| {
        Violation::new(file.clone(), (file, *lines), format!("It has {lines}. Give each concept a file."))
    });
    once_each(violations.collect())
}

fn counted<'a>(program: &'a Program, replaced: Replaced<'a>) -> impl Iterator<Item = (&'a Vec<String>, &'a Module)> {
    program.modules.iter().filter(move |(_, module)| !is_replaced(replaced, &module.file))
}

fn is_replaced(replaced: Replaced<'_>, file: &str) -> bool {
    replaced.contains(&file)
}
