//! What a binding asks for, as plain data and pure functions.
//!
//! Nothing here reads a clock, a network or a file. A tour, in the order in which a value passes:
//!
//! - [`mod@reference`] says *which* secret, version and JSON key: a name or ARN, a staging label or version id, and
//!   Amazon ECS's one-string form of all of them.
//! - [`payload`] is what Secrets Manager answered: text or bytes, and, where it is one, the JSON object in it.
//! - [`glob`] chooses among JSON keys (and, in grants, among secret names).
//! - [`encoding`] undoes Base64.
//! - [`key`] is the name under which a value is published, [`value`] its bytes.
//! - [`mapping`] puts these together: from the payloads of all sources to all keys of the target Secret, or one
//!   typed error. There is no partial result.
//! - [`template`] computes further keys from the mapped ones.
//! - [`duration`] reads the durations of a binding, such as `5m` or `1d12h`.
//!
//! Two rules hold throughout. Errors say what is wrong, where, and what to do, and never repeat a piece of a
//! value: names of secrets and keys are no secrets, everything else in a payload is. And buffers that held a value
//! are overwritten when dropped; the template engine's own copies are the one exception.

pub mod duration;
pub mod encoding;
pub mod glob;
pub mod key;
pub mod mapping;
pub mod name;
pub mod payload;
pub(crate) mod quoted;
pub mod reference;
pub mod spec;
pub mod template;
pub mod value;
