//! What the operator remembers. All of it is in memory and may be lost: a restart finds it again.

pub mod absent_kinds;
pub mod age_backfill;
pub mod backoff;
pub mod bindings;
pub mod fence;
pub mod grant_rules;
pub mod groups;
pub mod health;
pub mod history;
pub mod known_objects;
pub mod requeue;
pub mod secret_names;
pub mod slots;
pub mod targets;
pub mod warmup;
