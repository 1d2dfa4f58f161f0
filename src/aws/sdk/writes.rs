//! The requests that write: values, version stages and rotations. Each returns the request id.

use aws_types::request_id::RequestId;

use crate::aws::api::{NewVersion, StageMove};
use crate::aws::classify::{WriteOperation, of_write};
use crate::aws::sdk::clients::SdkClients;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;

pub(super) async fn put(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
    version: NewVersion<'_>,
) -> Result<Option<String>, SourceError> {
    let id = secret.to_string();
    let value = std::str::from_utf8(version.text.expose())
        .map_err(|_| SourceError::new(SourceErrorKind::InvalidReference, id.as_str()))?;
    let call = clients.begin(identity, WriteOperation::Put.name()).await;
    let request = call.client.put_secret_value().secret_id(&id).client_request_token(version.token);
    let stages = version.stages.iter().map(|stage| (*stage).to_owned()).collect();
    let result = request.secret_string(value).set_version_stages(Some(stages)).send().await;
    request_id(WriteOperation::Put, call.finish(&id, result))
}

pub(super) async fn move_stage(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
    stage: StageMove<'_>,
) -> Result<Option<String>, SourceError> {
    let id = secret.to_string();
    let StageMove { stage, from, to } = stage;
    let call = clients.begin(identity, WriteOperation::MoveStage.name()).await;
    let request = call.client.update_secret_version_stage().secret_id(&id).version_stage(stage);
    let request = request.set_remove_from_version_id(from.map(str::to_owned));
    let result = request.set_move_to_version_id(to.map(str::to_owned)).send().await;
    request_id(WriteOperation::MoveStage, call.finish(&id, result))
}

pub(super) async fn rotate(
    clients: &SdkClients,
    identity: &Identity,
    secret: &SecretId,
    token: &str,
) -> Result<Option<String>, SourceError> {
    let id = secret.to_string();
    let call = clients.begin(identity, WriteOperation::Rotate.name()).await;
    let result = call.client.rotate_secret().secret_id(&id).client_request_token(token).send().await;
    request_id(WriteOperation::Rotate, call.finish(&id, result))
}

fn request_id<T: RequestId>(
    operation: WriteOperation,
    result: Result<T, SourceError>,
) -> Result<Option<String>, SourceError> {
    result.map(|output| output.request_id().map(str::to_owned)).map_err(|error| of_write(error, operation))
}
