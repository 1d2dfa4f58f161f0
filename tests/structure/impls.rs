//! An inherent `impl` stands in the file of its type.

use crate::program::{Program, Target};
use crate::rules::{Replaced, Violation, once_each};

pub fn check(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, module) in &program.modules {
        for implementation in &module.implementations {
            for target in program.resolve_type(path, &implementation.of) {
                let Target::Item { module: home, name } = target else { continue };
                let home = program.file_of(&home);
                if home != module.file {
                    let text = format!("`{name}` stands in {home}. Move the impl there, or make it free functions.");
                    let key = format!("{} {name}", module.file);
                    violations.push(Violation::new(key, (&module.file, implementation.line), text));
                }
            }
        }
    }
    once_each(violations)
}
