//! The AWS boundary: what Bindery asks of Secrets Manager, and what it makes of the answers.
//!
//! [`SecretsApi`](api::SecretsApi) is the one trait of the crate. [`SecretsManager`](sdk::SecretsManager)
//! implements it over the AWS SDK; tests of faults that no real service produces implement it in memory.
//!
//! | file | what |
//! |---|---|
//! | [`api`] | the calls that Bindery makes, as one trait |
//! | [`sdk`] | the same over the AWS SDK |
//! | [`classify`] | what AWS's error codes mean |
//! | [`credentials`] | the credentials of an identity |
//! | [`rate_limit`] | how often AWS is called |
//! | [`versions`] | which versions the secrets have, found without reading a value |
//! | [`read_request`] | for whom a value is read, and why |
//! | [`batch`] | who waits for which value, and what is read with one call, pure |
//! | [`reader`] | the one way to a value: one read for all who ask, recorded |
//! | [`shared_version`] | a secret version that several bindings share |
//! | [`writer`] | the one way to a new value: recorded before and after |
//! | [`audit`] | the record of reads and writes |
//! | [`events`] | the queues of CloudTrail events |

pub mod api;
mod attempts;
pub mod audit;
pub mod batch;
pub mod classify;
pub mod credentials;
pub mod events;
pub mod rate_limit;
pub mod read_request;
pub mod reader;
pub mod sdk;
pub mod shared_version;
pub mod versions;
pub mod writer;
