//! Restarts: which workloads use what was published, and how they come to run the current values.
//!
//! | file | what |
//! |---|---|
//! | [`policy`] | which workloads are restarted, and when, parsed |

pub mod policy;
