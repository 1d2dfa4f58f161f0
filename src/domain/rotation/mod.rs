//! Rotation: the ages of keys, the rules that make them due, the actions, and overlaps of an old and a new value.
//!
//! | file | content |
//! |---|---|
//! | [`gate`] | whether all pods know what a phase published, pure |
//! | [`generate`] | new random values and the way of them into Secrets Manager, pure |
//! | [`job`] | Jobs from the templates of CronJobs |
//! | [`overlap`] | how a key comes from an old to a new value while both live side by side, pure |
//! | [`record`] | how far the way of a key from an old to a new value is |
//! | [`rule`] | a rotation rule, parsed |
//! | [`age`] | the ages of keys |
//! | [`backfill`] | the ages of keys from older versions |
//! | [`due`] | the state of a rule |
//! | [`found`] | the findings of a reconcile |
//! | [`key_source`] | the source of a key |
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
