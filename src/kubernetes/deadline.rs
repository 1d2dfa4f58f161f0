//! The failure of a request that took longer than its deadline.

/// The failure, in the words of the client.
pub(super) fn timed_out() -> kube::Error {
    kube::Error::Service(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
}
