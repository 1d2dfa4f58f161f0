//! One reconcile of one binding. Each step is a function with a result of its own; [`steps`] calls them in this order,
//! and each file is entered once:
//!
//! 1. [`entry`] takes the history of the binding and parses its manifest.
//! 2. [`authorize`] finds the grant; [`withdraw`] deletes what a grant that ended asks to delete.
//! 3. [`observe_target`], [`observe`], [`observe_sources`] observe without a value.
//! 4. [`plan`](mod@plan) decides whether values must be read, pure.
//! 5. [`fetch`] reads the values.
//! 6. [`apply`] renders them, [`write`](mod@write) writes the Secret.
//! 7. [`cleanup`] deletes Secrets of earlier names; [`ages`] and [`age_backfill`] date the keys.
//! 8. The [`attempt`] holds the results; [`status`], [`conditions`] and [`events`] fold them, pure; [`report`] writes them.
//! 9. [`requeue`] answers when the next reconcile is due, pure.

pub mod age_backfill;
pub mod ages;
pub mod apply;
pub mod attempt;
pub mod authorize;
pub mod cleanup;
pub mod conditions;
pub mod entry;
pub mod events;
pub mod fetch;
pub mod observe;
pub mod observe_sources;
pub mod observe_target;
pub mod plan;
pub mod recorded;
pub mod report;
pub mod requeue;
pub mod stale;
pub mod status;
pub mod steps;
pub mod take_over;
pub mod withdraw;
pub mod write;
