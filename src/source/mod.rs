//! The AWS boundary: what Bindery asks of Secrets Manager, and what it makes of the answers.
//!
//! [`SecretsApi`](api::SecretsApi) is the one trait of the crate. [`SecretsManager`](secrets_manager::SecretsManager)
//! implements it over the AWS SDK; tests of faults that no real service produces implement it in memory.
//!
//! | file | what |
//! |---|---|
//! | [`versions`] | which versions the secrets have, found without reading a value |
//! | [`sweep`] | what one list of all secrets tells of those that matter, pure |
//! | [`reader`] | the one way to a value: one read for all who ask, recorded |
//! | [`demand`] | who waits for which value, and what is read with one call, pure |
//! | [`writer`] | the one way to a new value: recorded before and after |
//! | [`audit`] | the record of reads and writes |
//! | [`event`] | what an event of CloudTrail says, pure |
//! | [`queue`] | the queues from which events are taken |
//! | [`quota`] | how often AWS is called |
//! | [`credentials`] | as whom |
//! | [`secrets_manager`] | the AWS SDK |

pub mod api;
mod attempts;
pub mod audit;
pub mod classify;
pub mod credentials;
pub mod demand;
pub mod event;
pub mod queue;
pub mod quota;
pub mod reader;
pub mod secrets_manager;
pub mod sweep;
pub mod versions;
pub mod writer;
