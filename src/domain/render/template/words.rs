//! The words of the template language.

/// Filters that templates may use; those of the engine that build no nested lists, and our own.
pub(super) const FILTERS: &[&str] = &[
    "b64decode",
    "b64encode",
    "d",
    "default",
    "dotenv",
    "first",
    "indent",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "lower",
    "replace",
    "sort",
    "split",
    "string",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];

/// Tests that may follow `is`.
pub(super) const TESTS: &[&str] = &["defined", "undefined", "startingwith", "endingwith"];

/// Words that name no mapped key.
pub(super) fn is_reserved(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "True",
        "False",
        "None",
        "true",
        "false",
        "none",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "loop",
        "bindery",
        "self",
        "recursive",
    ];
    WORDS.contains(&name)
}

/// Names as a message lists them.
pub(super) fn list(names: &[&str]) -> String {
    names.join(", ")
}
