//! A file imports its own layer or lower ones.

use crate::imports::{Import, imports, top};
use crate::program::Program;
use crate::rules::{Replaced, Violation, once_each};

/// From the lowest to the highest.
const LAYERS: [&[&str]; 8] = [
    &["api", "metrics", "settings"],
    &["domain"],
    &["kubernetes"],
    &["aws"],
    &["state"],
    &["reconcile"],
    &["controller"],
    &["http", "telemetry", "run", "cli", "flags", "main", "lib"],
];

/// The layer of a folder or file directly below `src`.
pub fn layer(top: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&top))
}

pub fn check(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let mut violations: Vec<_> = imports(program).iter().filter_map(upward).collect();
    for file in program.files() {
        if layer(top(file)).is_none() {
            let text = format!("`{}` has no layer. Move the file into the folder of a layer.", top(file));
            violations.push(Violation::new(format!("{file} no layer"), (file, 1), text));
        }
    }
    for module in program.modules.values() {
        let detours = module.detours.iter().map(|line| {
            let text = "`#[path]` and `include!` hide where code stands. Declare a plain module.".to_owned();
            Violation::new(format!("{} detour", module.file), (&module.file, *line), text)
        });
        violations.extend(detours);
    }
    once_each(violations)
}

fn upward(import: &Import) -> Option<Violation> {
    let Import { from, to, item, line, .. } = import;
    let (importer, imported) = (layer(top(from))?, layer(top(to))?);
    (importer < imported).then(|| {
        let text = format!("`{item}` of {to} is higher. Move it down, or move what needs it up.");
        Violation::new(format!("{from} -> {to} {item}"), (from, *line), text)
    })
}
