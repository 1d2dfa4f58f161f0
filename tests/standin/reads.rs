//! The operations that change nothing.

use serde_json::{Value, json};

use super::listing::{Filter, Page};
use super::operations::{Done, Service, next_token, read_token};
use super::parameters::Parameters;
use super::refusal::Refusal;
use super::shape;

const LARGEST_BATCH: usize = 20;
const LARGEST_PAGE: usize = 100;
const LONGEST_ID: usize = 2048;
const LONGEST_LABEL: usize = 256;

/// `GetSecretValue`
pub fn get(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let id = parameters.secret()?;
    let version = parameters.version("VersionId")?;
    let label = parameters.text("VersionStage", 1, LONGEST_LABEL)?;
    let body = read(service, id, version, label)?;
    Ok(Done { body, values: 1, rotation: None })
}

/// One value, if it can be read. The secret and the version then know when.
fn read(service: &mut Service, id: &str, version: Option<&str>, label: Option<&str>) -> Result<Value, Refusal> {
    service.faults.of(id, service.store.name(id))?;
    let now = service.now;
    let secret = service.store.secret(id, "GetSecretValue", now)?;
    let read = secret.read(version, label)?;
    let (answer, version) = (shape::value(&secret.arn, &secret.name, read), read.id.clone());
    secret.accessed = Some(now);
    if let Some(version) = secret.version_mut(&version) {
        version.accessed = Some(now);
    }
    Ok(answer)
}

/// `BatchGetSecretValue`: what cannot be read is named, and the rest is answered.
pub fn batch(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let ids = parameters.list("SecretIdList", LARGEST_BATCH, LONGEST_ID)?;
    let filters = Filter::parse(&parameters.0["Filters"])?;
    let size = parameters.page_size(LARGEST_BATCH)?;
    let (ids, next) = match (ids, filters.is_empty()) {
        (Some(_), false) => {
            return Err(Refusal::invalid_parameter(
                "Either 'SecretIdList' or 'Filters' must be provided, but not both.",
            ));
        }
        (None, true) => {
            return Err(Refusal::invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided."));
        }
        (Some(_), true) if size.is_some() => {
            return Err(Refusal::invalid_parameter(
                "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.",
            ));
        }
        (Some(ids), true) => (ids, None),
        (None, false) => {
            let (size, after) = (size.unwrap_or(LARGEST_BATCH), read_token(parameters, "BatchGetSecretValue")?);
            let page = Page { filters: &filters, include_deleted: false, descending: false, size, after };
            let (entries, next) = service.store.listing().page(&page, service.now);
            (entries.iter().filter_map(|entry| entry["ARN"].as_str()).map(str::to_owned).collect(), next)
        }
    };
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for id in &ids {
        match read(service, id, None, None) {
            Ok(value) => values.push(value),
            Err(error) => {
                errors.push(json!({"SecretId": id, "ErrorCode": error.code, "Message": error.message}));
            }
        }
    }
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let mut body = json!({"SecretValues": values, "Errors": errors});
    if let Some(next) = next {
        body["NextToken"] = next_token("BatchGetSecretValue", next);
    }
    Ok(Done { body, values: count, rotation: None })
}

/// `ListSecrets`
pub fn list(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    match parameters.text("SortBy", 1, 64)? {
        None | Some("created-date") => {}
        Some(other) => return Err(Refusal::not_modelled(&format!("the order {other}"))),
    }
    let filters = Filter::parse(&parameters.0["Filters"])?;
    let page = Page {
        filters: &filters,
        include_deleted: parameters.flag("IncludePlannedDeletion")?.unwrap_or_default(),
        descending: parameters.text("SortOrder", 1, 8)? == Some("desc"),
        size: parameters.page_size(LARGEST_PAGE)?.unwrap_or(LARGEST_PAGE),
        after: read_token(parameters, "ListSecrets")?,
    };
    let then = service.now.checked_sub(service.options.list_lag).unwrap_or(service.now);
    let (entries, next) = service.store.listing().page(&page, then);
    let mut body = json!({"SecretList": entries});
    if let Some(next) = next {
        body["NextToken"] = next_token("ListSecrets", next);
    }
    Ok(Done::without_value(body))
}

/// `DescribeSecret`
pub fn describe(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    let secret = service.store.secret(parameters.secret()?, "DescribeSecret", service.now)?;
    Ok(Done::without_value(shape::description(secret)))
}

/// `ListSecretVersionIds`: only what has a value, and without a label only where asked for.
pub fn versions(service: &mut Service, parameters: &Parameters) -> Result<Done, Refusal> {
    const OPERATION: &str = "ListSecretVersionIds";
    let deprecated = parameters.flag("IncludeDeprecated")?.unwrap_or_default();
    let size = parameters.page_size(LARGEST_PAGE)?.unwrap_or(LARGEST_PAGE);
    let after = read_token(parameters, OPERATION)?;
    let first = after.and_then(|place| usize::try_from(place).ok()).unwrap_or_default();
    let secret = service.store.secret(parameters.secret()?, OPERATION, service.now)?;
    let mut body = json!({"ARN": secret.arn, "Name": secret.name});
    let shown = secret
        .versions
        .iter()
        .filter(|version| version.content.is_some() && (deprecated || !version.labels.is_empty()));
    let mut rest = shown.skip(first);
    let page: Vec<Value> = rest.by_ref().take(size).map(shape::version).collect();
    if rest.next().is_some() {
        body["NextToken"] = next_token(OPERATION, (first + page.len()) as u64);
    }
    body["Versions"] = json!(page);
    Ok(Done::without_value(body))
}
