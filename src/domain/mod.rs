//! The domain: plain data and pure functions. No file here knows a client, a clock, a random source, a lock or a network.
//!
//! - [`binding`] is a parsed manifest; [`grant`] decides which secrets a binding may read.
//! - [`secret`] has references, descriptions, versions and failures of Secrets Manager.
//! - [`payload`] reads the JSON of a value; [`render`] makes the keys of the target from it.
//! - [`target`] is the published Secret, as observed and as desired.
//! - [`rollout`] decides which workloads are restarted; [`rotation`] decides which keys are due.
//!
//! Two rules apply throughout. An error names the field, the fault and the cure, and never repeats a piece of a value.
//! A buffer with a value is overwritten when it is dropped; the template engine's own copies are the one exception.

pub(crate) mod alike;
pub mod binding;
pub mod duration;
pub mod fingerprint;
pub mod grant;
pub mod inputs;
pub mod metadata;
pub mod name;
pub mod note;
pub mod payload;
pub(crate) mod quoted;
pub mod render;
pub mod rollout;
pub mod rotation;
pub mod schedule;
pub mod secret;
pub mod target;
pub mod time;
pub mod value;
