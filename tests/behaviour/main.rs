//! Behaviour on a real API server and on Secrets Manager as moto serves it. `make test` brings both up.

mod support;

mod access;
mod admission;
mod lifecycle;
mod publishing;
mod repair;
mod restart;
