//! The Kubernetes boundary: every request to the API server.
//!
//! | file | what |
//! |---|---|
//! | [`client`] | the client, with a deadline for every request |
//! | [`api_server`] | the way to the API server, and the bound on requests under way |
//! | [`read`], [`list`] | reads of single objects, and lists page by page |
//! | `object_stream` | a list as its bytes arrive, object by object |
//! | [`referrers`] | which objects refer to a Secret |
//! | [`mod@write`], [`write_error`] | the target Secret |
//! | [`restart`], [`workloads`] | workloads |
//! | [`job`] | Jobs from the templates of CronJobs |
//! | [`report`] | status and Events |
//! | [`service_account`] | the role and the tokens of a ServiceAccount |
//! | [`fence`] | the test of the admission policies around the operator |
//! | [`installation`] | the kinds and the fingerprint key of the installation |
//! | [`list_watch`] | a list, then a watch, for ever |
//! | [`lease`] | leader election |
//! | [`binding_object`], [`grant_object`], [`namespace_object`], [`watched_secret`] | what the watches deliver |
//! | [`unreadable`] | what is known of an object that this version cannot read |

pub mod api_server;
pub mod binding_object;
pub mod client;
mod deadline;
mod event_queue;
pub mod fence;
pub mod grant_object;
pub mod installation;
pub mod job;
pub mod lease;
pub mod list;
pub mod list_watch;
pub mod namespace_object;
mod object_stream;
mod places;
pub mod read;
pub mod referrers;
pub mod report;
pub mod restart;
pub mod service_account;
pub mod unreadable;
pub mod watched_secret;
pub mod workloads;
pub mod write;
pub mod write_error;
