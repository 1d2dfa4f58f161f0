//! Rotation: how old keys are, when they are due, what is done then, and how an old and a new value live side by side.
//!
//! | file | what |
//! |---|---|
//! | [`gate`] | whether all pods know what a phase published, pure |
//! | [`generate`] | new random values and the way of them into Secrets Manager, pure |
//! | [`job`] | Jobs from the templates of CronJobs |
//! | [`overlap`] | how a key comes from an old to a new value while both live side by side, pure |
//! | [`record`] | how far the way of a key from an old to a new value is |
//! | [`rule`] | a rotation rule, parsed |
//! | [`age`] | when keys were last changed |
//! | [`due`] | whether a rule is due |
//! | [`command`] | what the annotation `bindery.dev/rotation` asks for |

pub mod age;
pub mod backfill;
pub mod command;
pub mod due;
pub mod found;
pub mod gate;
pub mod generate;
pub mod job;
pub mod key_source;
pub mod overlap;
pub mod record;
pub mod rule;
