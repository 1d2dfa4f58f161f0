//! The verdict on a workload.

/// The verdict on a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartVerdict {
    /// Its pods have the current values.
    Current,
    /// It opts out of restarts, and some of its pods have earlier values.
    OptsOut,
    /// It needs a restart.
    Due,
    /// Its pods are being replaced.
    UnderWay,
    /// It waits for a person; the text names the step.
    Pending(String),
    /// It failed; the text names the cause.
    Failed(String),
}
