//! Restarts: which workloads use what was published, and how they come to run the current values.
//!
//! | file | what |
//! |---|---|
//! | [`consumer`] | what a pod can see of a Secret |
//! | [`policy`] | which workloads are restarted, and when, parsed |

pub mod consumer;
pub mod policy;
