//! The events of CloudTrail, from SQS queues.

pub mod address;
pub mod consumer;
pub mod dispatch;
mod failure;
pub mod health;
pub mod message;
