//! The cause of a failed request, without the words of the API server.

/// Names the cause of a failed request.
pub fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => "the API server forbids it (403)".to_owned(),
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer".to_owned(),
    }
}
