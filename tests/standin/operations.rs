//! The operations of Secrets Manager: parameters in, answer out. Pure: the time is an argument.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Options;
use super::faults::Faults;
use super::parameters::Parameters;
use super::refusal::Refusal;
use super::store::Store;
use super::{reads, writes};

/// What an operation works on.
pub struct Service<'a> {
    pub store: &'a mut Store,
    pub faults: &'a Faults,
    pub options: &'a Options,
    pub now: SystemTime,
}

/// A call that was carried out.
pub struct Done {
    pub body: Value,
    /// How many values are in it.
    pub values: u32,
    /// A rotation that goes on by itself.
    pub rotation: Option<Started>,
}

/// A rotation under way: of which secret, under which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub arn: String,
    pub token: String,
}

impl Done {
    pub fn without_value(body: Value) -> Self {
        Self { body, values: 0, rotation: None }
    }
}

/// Carries out one call.
pub fn carry_out(service: &mut Service, operation: &str, body: &Value) -> Result<Done, Refusal> {
    let parameters = Parameters(body);
    allowed(service, operation, body)?;
    match operation {
        "GetSecretValue" => reads::get(service, &parameters),
        "BatchGetSecretValue" => reads::batch(service, &parameters),
        "ListSecrets" => reads::list(service, &parameters),
        "DescribeSecret" => reads::describe(service, &parameters),
        "ListSecretVersionIds" => reads::versions(service, &parameters),
        "CreateSecret" => writes::create(service, &parameters),
        "PutSecretValue" => writes::put(service, &parameters),
        "UpdateSecret" => writes::update(service, &parameters),
        "UpdateSecretVersionStage" => writes::move_label(service, &parameters),
        "RotateSecret" => writes::rotate(service, &parameters),
        "DeleteSecret" => writes::delete(service, &parameters),
        "RestoreSecret" => writes::restore(service, &parameters),
        "" => Err(Refusal::of("UnknownOperationException", "")),
        other => Err(Refusal::not_modelled(other)),
    }
}

/// What IAM says, as far as the options go. The two that know no resource name none in the message.
fn allowed(service: &mut Service, operation: &str, body: &Value) -> Result<(), Refusal> {
    let options = service.options;
    let allowed = match operation {
        "BatchGetSecretValue" => options.batch_allowed,
        "ListSecrets" => options.list_allowed,
        "DescribeSecret" => options.describe_allowed,
        _ => true,
    };
    if allowed {
        return Ok(());
    }
    let id = body["SecretId"].as_str();
    let arn = id.and_then(|id| service.store.secret(id, operation, service.now).ok()).map(|secret| secret.arn.clone());
    let resource = arn.as_deref().or(id);
    Err(Refusal::denied(service.store.account(), operation, resource, "identity-based"))
}

/// Where the next page begins, in a form that says nothing to the caller and fits only the same operation.
pub fn next_token(operation: &str, number: u64) -> Value {
    use base64::Engine as _;
    json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{operation}:{number}")))
}

/// Reads back what [`next_token`] made.
pub fn read_token(parameters: &Parameters, operation: &str) -> Result<Option<u64>, Refusal> {
    use base64::Engine as _;
    let Some(token) = parameters.text("NextToken", 1, 4096)? else { return Ok(None) };
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let number = text.as_deref().and_then(|text| text.strip_prefix(operation)?.strip_prefix(':')?.parse().ok());
    number.map(Some).ok_or_else(|| Refusal::of("InvalidNextTokenException", "The NextToken value is invalid."))
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
