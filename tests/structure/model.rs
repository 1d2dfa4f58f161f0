//! What the rules know of the sources: plain data, with line numbers.

use std::collections::BTreeMap;

/// The path of a module from the root of the crate.
pub type ModulePath = Vec<String>;

/// A path that stands somewhere in the code.
#[derive(Clone, Debug)]
pub struct Mention {
    /// Its segments. The first one is empty where the path begins with `::`; the last one of a glob is `*`.
    pub path: Vec<String>,
    pub line: usize,
}

/// A call of a method.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub arguments: usize,
    /// Whether types are named between the method and its arguments.
    pub generic: bool,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Module,
    /// A struct, an enum, a union or a trait.
    Type,
    Alias,
    Other,
}

/// A named item of a module.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub public: bool,
    pub line: usize,
    /// The fields of a struct, or of the largest variant of an enum.
    pub fields: usize,
    /// The type that an alias stands for.
    pub alias: Option<Shape>,
}

/// As much of a type as the rules need.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The values that it holds side by side: the elements of a tuple, else one.
    pub elements: usize,
    /// The elements of the widest tuple in it.
    pub widest: usize,
    /// Its path, where it is a named type or a reference to one.
    pub path: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Function {
    /// With the type, trait or function around it.
    pub name: String,
    pub line: usize,
    /// From the signature to the closing brace.
    pub lines: usize,
    /// One for each parameter, `self` included.
    pub parameters: Vec<Shape>,
    /// Whether a trait dictates the parameters.
    pub of_trait: bool,
}

/// An inherent `impl`.
#[derive(Clone, Debug)]
pub struct Implementation {
    pub of: Vec<String>,
    pub methods: usize,
    pub line: usize,
}

/// One module: a file, or a `mod` with a body.
#[derive(Clone, Debug, Default)]
pub struct Module {
    pub file: String,
    pub items: BTreeMap<String, Vec<Item>>,
    /// What `use` brings in, by the name that it has here.
    pub imports: BTreeMap<String, Vec<Vec<String>>>,
    pub globs: Vec<Vec<String>>,
    pub mentions: Vec<Mention>,
    pub calls: Vec<Call>,
    pub implementations: Vec<Implementation>,
    pub functions: Vec<Function>,
    /// Where it is `async` or awaits.
    pub waits: Vec<usize>,
    /// Where `#[path]` or `include!` brings code from elsewhere.
    pub detours: Vec<usize>,
}
