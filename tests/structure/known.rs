//! What breaks the rules today, by file and item. The lists only shrink: an entry that is there no more fails the test.
//!
//! `BINDERY_STRUCTURE_LIST=1 cargo test --test structure prints_the_lists -- --nocapture` prints this file anew;
//! `| sed '1,/^running/d;/^test /,$d'` takes the lines of the test runner off.

/// Files that SecretRotation replaces. The rules on sizes, circles and writes leave them out.
pub const REPLACED_BY_ROTATION: &[&str] = &[
    "domain/rotation/command.rs",
    "domain/rotation/gate.rs",
    "domain/rotation/overlap.rs",
    "domain/rotation/record.rs",
    "reconcile/rotation/acting.rs",
    "reconcile/rotation/action.rs",
    "reconcile/rotation/action/generating.rs",
    "reconcile/rotation/hold.rs",
    "reconcile/rotation/overlap.rs",
    "reconcile/rotation/overlap/members.rs",
    "reconcile/rotation/overlap/observed.rs",
    "reconcile/rotation/overlap/report.rs",
    "reconcile/rotation/overlap/values.rs",
];

/// A file imports its own layer or lower ones.
pub const UPWARD_IMPORTS: &[&str] = &[];

/// No files import each other in a circle.
pub const CIRCLES: &[&str] = &[];

/// A module imports no item that the file of its parent defines.
pub const PARENTS: &[&str] = &[];

/// An inherent impl stands in the file of its type.
pub const FOREIGN_IMPLS: &[&str] = &[];

/// The domain and the pure steps know no client, clock, chance, lock or network.
pub const IMPURE: &[&str] = &[];

/// Requests to the API server stand in kubernetes/ and controller/watch.rs.
pub const REQUESTS: &[&str] = &[];

/// Writes to the API server stand in five files of kubernetes/.
pub const WRITES: &[&str] = &[];

/// A step that observes or plans has no permit and no client that writes.
pub const PERMITS: &[&str] = &[];

/// The AWS SDK stays in aws/.
pub const AWS_SDK: &[&str] = &[];

/// The name of a public type stands for one type.
pub const HOMONYMS: &[&str] = &[];

/// A function has at most 60 lines.
pub const LONG_FUNCTIONS: &[&str] = &[];

/// A function has at most 5 arguments, elements of tuples counted, and no tuple of more than 3.
pub const MANY_ARGUMENTS: &[&str] = &[];

/// A type of reconcile/ or controller/ has at most 10 fields and 15 methods.
pub const LARGE_TYPES: &[&str] = &[];

/// A file has at most 449 lines, tests included.
pub const LONG_FILES: &[&str] = &[];
