//! Rotation: how old keys are, when they are due, what is done then, and how an old and a new value live side by side.
//!
//! | file | what |
//! |---|---|
//! | [`rule`] | a rotation rule, parsed |
//! | [`schedule`] | cron expressions in a time zone |
//! | [`age`] | when keys were last changed |
//! | [`state`] | whether a rule is due |
//! | [`command`] | what the annotation `bindery.dev/rotation` asks for |

pub mod age;
pub mod command;
pub mod rule;
pub mod schedule;
pub mod state;
