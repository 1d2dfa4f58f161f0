//! The controller: watches, triggers, and the loop that makes the reconciles that are asked for.
//!
//! | file | what |
//! |---|---|
//! | [`prepare`] | what reconciles share, put together |
//! | [`watch`] | the watches on the API server |
//! | [`trigger`] | which bindings a change affects |
//! | [`work_queue`] | when which binding is reconciled next, pure |
//! | [`resync`] | the net under the watches: each binding is reconciled once in a while |
//! | [`run_loop`] | one task for each reconcile, while this process leads |
//! | [`panics`] | the pauses of bindings whose reconcile panicked |
//! | [`startup`] | the first reconciles after a start |
//! | [`grant_status`] | the status of grants |
//! | [`fence`] | the test of the fence around the operator |

pub mod fence;
pub mod grant_status;
pub mod panics;
pub mod prepare;
pub mod resync;
pub mod run_loop;
pub mod startup;
pub mod trigger;
pub mod watch;
pub mod work_queue;
