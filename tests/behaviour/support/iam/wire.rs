//! Answers in the forms in which AWS gives them.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::{Response, StatusCode};
use serde_json::json;

use super::evaluate::{Decision, Denial, Principal};

/// The two protocols that the operator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Secrets Manager and SQS.
    Json,
    /// STS.
    Query,
}

/// An answer in AWS's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// AWS's error code; empty where it is no error.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
    /// The request id.
    pub request_id: String,
    content_type: &'static str,
    body: String,
}

impl Answer {
    /// An error.
    pub fn error(protocol: Protocol, status: StatusCode, code: &'static str, message: &str) -> Self {
        let request_id = next_request_id();
        let (content_type, body) = match protocol {
            // The service's own errors have `message`, those of the layer that checks permissions `Message`.
            Protocol::Json => ("application/x-amz-json-1.1", json!({"__type": code, "Message": message}).to_string()),
            Protocol::Query => {
                let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let error =
                    format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
                let xml = format!("{error}<RequestId>{request_id}</RequestId>");
                let space = "https://sts.amazonaws.com/doc/2011-06-15/";
                ("text/xml", format!("<ErrorResponse xmlns=\"{space}\">{xml}</ErrorResponse>"))
            }
        };
        Self { status, code, message: message.to_owned(), request_id, content_type, body }
    }

    /// An answer of the JSON protocol that is no error.
    pub fn success(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            code: "",
            message: String::new(),
            request_id: next_request_id(),
            content_type: "application/x-amz-json-1.1",
            body,
        }
    }

    /// The HTTP response.
    ///
    /// # Panics
    /// Never: all its parts are known to be right.
    pub fn response<B: From<String>>(&self) -> Response<B> {
        Response::builder()
            .status(self.status)
            .header("content-type", self.content_type)
            .header("x-amzn-requestid", &self.request_id)
            .body(B::from(self.body.clone()))
            .expect("the parts of an answer are right")
    }
}

/// Like AWS's, and no other of this process has it.
fn next_request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("00000000-0000-4000-8000-{:012x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// AWS's sentence about a refusal. STS names no policy; the other services do.
pub fn sentence(principal: &Principal, action: &str, resource: Option<&str>, decision: &Decision) -> String {
    let on = resource.map_or_else(String::new, |resource| format!(" on resource: {resource}"));
    let start = format!("User: {} is not authorized to perform: {action}{on}", principal.arn());
    match decision {
        Decision::Denied(_) if action.starts_with("sts:") => start,
        Decision::Denied(denial @ Denial::Explicit { .. }) => format!("{start} {denial}"),
        Decision::Denied(denial @ Denial::Implicit { .. }) => format!("{start} {denial} the {action} action"),
        Decision::Allowed { .. } => start,
    }
}
