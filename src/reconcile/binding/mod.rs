//! One reconcile of one binding: [`steps`] is the table of contents, [`entry`] goes on with status and requeue.

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
