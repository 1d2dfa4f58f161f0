//! How fresh an observation of the API server must be.

/// How fresh an observation of the API server must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// As fresh as the watch: enough to find that there is nothing to do.
    Cached,
    /// From the API server: what a write rests on.
    Live,
}
