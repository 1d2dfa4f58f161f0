//! The events of CloudTrail, from SQS queues.

pub mod address;
pub mod consumer;
mod failure;
pub mod health;
pub mod message;
