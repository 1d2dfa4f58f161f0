//! Rules that are due, and the overlaps of old and new values.

pub mod acting;
pub mod action;
pub mod hold;
pub mod overlap;
pub mod status;
