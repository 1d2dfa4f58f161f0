//! From the payloads of all sources to the keys of the target Secret, or one typed error. There is no partial result.

pub mod encoding;
pub mod glob;
pub mod key;
pub mod mapping;
pub mod rejection;
pub mod template;
pub mod text;
