//! The requests that read: descriptions, lists, values and the account.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use aws_sdk_secretsmanager::primitives::{Blob, DateTime};
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use aws_types::request_id::RequestId;
use k8s_openapi::jiff::Timestamp;

use crate::aws::api::{Batch, SecretPage, VersionPage};
use crate::aws::attempts::LostAttempts;
use crate::aws::classify::of_item;
use crate::aws::sdk::clients::SdkClients;
use crate::domain::payload::Payload;
use crate::domain::secret::description::{Description, RotationDates};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};
use crate::domain::secret::version::{ListedVersion, SecretVersion};

/// The most entries of one page of `ListSecrets` or `ListSecretVersionIds`.
const PAGE_LIMIT: i32 = 100;

pub(super) async fn describe(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
) -> Result<Description, SourceError> {
    let id = secret.to_string();
    let call = clients.begin(identity, "DescribeSecret").await;
    let output = call.finish(&id, call.client.describe_secret().secret_id(&id).send().await)?;
    Ok(Description {
        arn: output.arn.ok_or_else(|| incomplete(&id))?,
        name: output.name.ok_or_else(|| incomplete(&id))?,
        versions: stages_by_version(output.version_ids_to_stages),
        pending_deletion: output.deleted_date.is_some(),
        created: output.created_date.and_then(|date| timestamp(&date)),
        rotation: RotationDates {
            enabled: output.rotation_enabled.unwrap_or_default(),
            next: output.next_rotation_date.and_then(|date| timestamp(&date)),
            last: output.last_rotated_date.and_then(|date| timestamp(&date)),
        },
    })
}

pub(super) async fn read(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
    version: &VersionSelector,
) -> Result<SecretVersion, SourceError> {
    let id = secret.to_string();
    let call = clients.begin(identity, "GetSecretValue").await;
    let request = call.client.get_secret_value().secret_id(&id);
    let request = match version {
        VersionSelector::Stage(stage) => request.version_stage(stage),
        VersionSelector::Id(version) => request.version_id(version),
    };
    let attempts = LostAttempts::default();
    let result = call.finish(&id, request.customize().interceptor(attempts.clone()).send().await);
    let lost_attempts = attempts.count();
    let mut output = result.map_err(|error| SourceError { lost_attempts, ..error })?;
    let answer = ValueAnswer {
        arn: output.arn.take(),
        name: output.name.take(),
        version_id: output.version_id.take(),
        created: output.created_date.take(),
        text: output.secret_string.take(),
        binary: output.secret_binary.take(),
        request_id: output.request_id().map(str::to_owned),
    };
    answer.version(&id, lost_attempts)
}

pub(super) async fn read_batch(
    clients: &SdkClients,
    identity: &Identity,
    secrets: &[SecretId],
) -> Result<Batch, SourceError> {
    let ids: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    let first = ids.first().cloned().unwrap_or_default();
    let call = clients.begin(identity, "BatchGetSecretValue").await;
    let request = call.client.batch_get_secret_value().set_secret_id_list(Some(ids));
    let attempts = LostAttempts::default();
    let result = call.finish(&first, request.customize().interceptor(attempts.clone()).send().await);
    let lost_attempts = attempts.count();
    let output = result.map_err(|error| SourceError { lost_attempts, ..error })?;
    let request_id = output.request_id().map(str::to_owned);
    let mut batch = Batch { lost_attempts, ..Batch::default() };
    for error in output.errors.unwrap_or_default() {
        let id = error.secret_id.unwrap_or_default();
        let failure = of_item(&id, error.error_code.as_deref(), error.message.as_deref(), request_id.clone());
        batch.failures.push((id, failure));
    }
    for entry in output.secret_values.unwrap_or_default() {
        let answer = ValueAnswer {
            arn: entry.arn,
            name: entry.name,
            version_id: entry.version_id,
            created: entry.created_date,
            text: entry.secret_string,
            binary: entry.secret_binary,
            request_id: request_id.clone(),
        };
        let id = answer.name.clone().unwrap_or_default();
        match answer.version(&id, 0) {
            Ok(version) => batch.versions.push(version),
            Err(error) => batch.failures.push((id, error)),
        }
    }
    Ok(batch)
}

pub(super) async fn list(
    clients: &SdkClients,
    identity: &Identity,
    prefixes: &[String],
    page: Option<String>,
) -> Result<SecretPage, SourceError> {
    let by_name = (!prefixes.is_empty())
        .then(|| Filter::builder().key(FilterNameStringType::Name).set_values(Some(prefixes.to_vec())).build());
    let call = clients.begin(identity, "ListSecrets").await;
    let request = call.client.list_secrets().max_results(PAGE_LIMIT);
    let request = request.set_filters(by_name.map(|filter| vec![filter])).set_next_token(page);
    let output = call.finish("(all secrets)", request.send().await)?;
    let secrets = output.secret_list.unwrap_or_default().into_iter().filter_map(|entry| {
        Some(Description {
            arn: entry.arn?,
            name: entry.name?,
            versions: stages_by_version(entry.secret_versions_to_stages),
            pending_deletion: entry.deleted_date.is_some(),
            created: entry.created_date.and_then(|date| timestamp(&date)),
            rotation: RotationDates {
                enabled: entry.rotation_enabled.unwrap_or_default(),
                next: entry.next_rotation_date.and_then(|date| timestamp(&date)),
                last: entry.last_rotated_date.and_then(|date| timestamp(&date)),
            },
        })
    });
    Ok(SecretPage { secrets: secrets.collect(), next: output.next_token })
}

pub(super) async fn list_versions(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
    page: Option<String>,
) -> Result<VersionPage, SourceError> {
    let id = secret.to_string();
    let call = clients.begin(identity, "ListSecretVersionIds").await;
    let request = call.client.list_secret_version_ids().secret_id(&id);
    let request = request.include_deprecated(true).max_results(PAGE_LIMIT).set_next_token(page);
    let output = call.finish(&id, request.send().await)?;
    let versions = output.versions.unwrap_or_default().into_iter().filter_map(|entry| {
        Some(ListedVersion {
            id: entry.version_id?,
            stages: entry.version_stages.unwrap_or_default().into_iter().collect(),
            created: entry.created_date.and_then(|date| timestamp(&date)),
        })
    });
    Ok(VersionPage { versions: versions.collect(), next: output.next_token })
}

pub(super) async fn account(clients: &SdkClients, identity: &Identity) -> Result<String, SourceError> {
    Ok(caller(clients, identity).await?.0)
}

/// The account and the ARN of the operator's own identity.
pub(super) async fn caller(clients: &SdkClients, identity: &Identity) -> Result<(String, String), SourceError> {
    const WHOSE: &str = "(the operator's identity)";
    let started = Instant::now();
    let result = aws_sdk_sts::Client::new(&clients.config_of(identity)).get_caller_identity().send().await;
    clients.count("GetCallerIdentity", started, &result);
    let kind = SourceErrorKind::CredentialsFailed;
    let output = result.map_err(|error| {
        let answered = error.raw_response().is_some();
        let error = clients.explained(identity, WHOSE, &error);
        let fault = error.fault.filter(|_| answered || error.kind == kind).unwrap_or_else(|| {
            let how = if answered { "STS refused it or failed" } else { "STS cannot be reached; check the network, the proxy and the variable AWS_ENDPOINT_URL_STS" };
            format!("{how} (asked with {})", clients.own())
        });
        let fault = format!("sts:GetCallerIdentity, which tells the operator's account, failed: {fault}; or set accountId in the SecretGrant");
        SourceError { kind, fault: Some(fault), ..error }
    })?;
    let account = output.account.ok_or_else(|| SourceError::new(kind, WHOSE))?;
    Ok((account, output.arn.unwrap_or_default()))
}

/// The answer of `GetSecretValue` or `BatchGetSecretValue` for one version.
struct ValueAnswer {
    arn: Option<String>,
    name: Option<String>,
    version_id: Option<String>,
    created: Option<DateTime>,
    text: Option<String>,
    binary: Option<Blob>,
    request_id: Option<String>,
}

impl ValueAnswer {
    fn version(self, id: &str, lost_attempts: u32) -> Result<SecretVersion, SourceError> {
        let request_id = self.request_id;
        let (Some(arn), Some(name), Some(version_id)) = (self.arn, self.name, self.version_id) else {
            // The answer may have a value that nothing can use: it counts as one more lost attempt.
            return Err(SourceError { lost_attempts: lost_attempts + 1, request_id, ..incomplete(id) });
        };
        let payload = match (self.text, self.binary) {
            (Some(text), _) => Payload::text(text),
            (None, Some(blob)) => Payload::binary(blob.into_inner()),
            // A failed rotation leaves a version without a value. It is no version to publish.
            (None, None) => {
                let kind = SourceErrorKind::VersionNotFound;
                return Err(SourceError { request_id, lost_attempts, ..SourceError::new(kind, id) });
            }
        };
        Ok(SecretVersion {
            arn,
            name,
            version_id,
            created: self.created.and_then(|date| timestamp(&date)),
            payload,
            request_id,
            lost_attempts,
        })
    }
}

/// The timestamp of a date of AWS, which has whole seconds.
fn timestamp(date: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(date.secs()).ok()
}

fn stages_by_version(versions: Option<HashMap<String, Vec<String>>>) -> BTreeMap<String, BTreeSet<String>> {
    versions.unwrap_or_default().into_iter().map(|(id, stages)| (id, stages.into_iter().collect())).collect()
}

fn incomplete(secret: &str) -> SourceError {
    SourceError { code: Some("IncompleteAnswer".to_owned()), ..SourceError::new(SourceErrorKind::Unavailable, secret) }
}
