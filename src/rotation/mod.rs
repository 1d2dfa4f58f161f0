//! Rotation: how old keys are, when they are due, what is done then, and how an old and a new value live side by side.
//!
//! | file | what |
//! |---|---|
//! | [`job`] | Jobs from the templates of CronJobs |
//! | [`rule`] | a rotation rule, parsed |
//! | [`schedule`] | cron expressions in a time zone |

pub mod job;
pub mod rule;
pub mod schedule;
