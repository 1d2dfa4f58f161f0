//! The phases that run an operator. Each asks for the world it needs, so that it can also run alone.

pub mod change;
pub mod cold;
pub mod failover;
pub mod foreign;
pub mod idle;
pub mod restart;
pub mod throttle;
