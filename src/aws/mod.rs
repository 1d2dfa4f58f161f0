//! The AWS boundary: the requests to Secrets Manager and SQS, and the state that they need.
//!
//! [`SecretsApi`](api::SecretsApi) is the one trait of the crate. [`SecretsManager`](sdk::SecretsManager) implements it
//! over the AWS SDK. Tests use an implementation in memory, with faults that no real service produces.
//!
//! | file | content |
//! |---|---|
//! | [`api`] | the requests to Secrets Manager, as one trait |
//! | [`sdk`] | the trait over the AWS SDK |
//! | [`classify`] | the meaning of AWS's error codes |
//! | [`own_credentials`] | the operator's own credentials, checked |
//! | [`own_account`] | the account of the operator's own identity |
//! | [`credentials`] | the credentials of other identities |
//! | [`sts_failure`] | what STS answered, among the causes of a failure |
//! | [`rate_limit`] | the rate limits of accounts and identities |
//! | [`tenant_limit`] | the budgets of namespaces |
//! | [`versions`] | the index of versions, filled without reading a value |
//! | [`read_request`] | the request of a binding for a value |
//! | [`read_queue`] | the pending reads of an identity, pure |
//! | [`reader`] | the one way to read a value: one read for all bindings, with an audit record |
//! | [`shared_version`] | a secret version that several bindings share |
//! | [`writer`] | the one way to write a value, with an audit record before and after |
//! | [`audit`] | the audit log |
//! | `record_file` | the file of the audit log, which gets whole records only |
//! | [`events`] | the queues of CloudTrail events |

pub mod api;
mod attempts;
pub mod audit;
pub mod classify;
pub mod credentials;
pub mod events;
pub mod own_account;
pub mod own_credentials;
pub mod rate_limit;
pub mod read_queue;
mod read_record;
pub mod read_request;
pub mod reader;
mod record_file;
pub mod sdk;
pub mod shared_version;
pub mod sts_failure;
pub mod tenant_limit;
pub mod value_memory;
pub mod versions;
pub mod writer;

#[cfg(test)]
pub(crate) mod fake;
