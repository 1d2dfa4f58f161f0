//! Token files: what can be told of them without asking AWS.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;

use crate::aws::own_credentials::signs::foreign_sign;

/// The audience that STS takes.
pub const AUDIENCE: &str = "sts.amazonaws.com";
/// A token file is a few kilobytes; a longer file is none.
const MAX_TOKEN: u64 = 64 * 1024;

/// The token of a file, or why the file cannot hold one: such a token cannot be sent.
///
/// # Errors
/// What is wrong with the file.
pub fn read_token(path: &str) -> Result<String, String> {
    if let Some(sign) = foreign_sign(path).filter(|sign| *sign != "a space") {
        return Err(format!("has {sign} in its name; correct the variable and restart the operator"));
    }
    let read = std::fs::metadata(path).and_then(|meta| {
        if meta.len() > MAX_TOKEN {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read_to_string(path)
    });
    let token = match read {
        Ok(token) => token,
        Err(_) if path.trim() != path => {
            return Err("has a space at the end of its name; correct the variable and restart the operator".to_owned());
        }
        Err(error) => {
            let kind = error.kind();
            return Err(format!("cannot be read ({kind}); mount the token, or see why the EKS webhook did not"));
        }
    };
    if token.trim().is_empty() {
        return Err("is empty; the kubelet fills it".to_owned());
    }
    match foreign_sign(&token) {
        Some(sign) => Err(format!("holds {sign}, which no token has; write it anew without that")),
        None => Ok(token),
    }
}

/// What is wrong with a token that STS refused, by its claims.
#[must_use]
pub fn refused_token(token: &str) -> Option<String> {
    let Some(claims) = claims(token) else { return Some("holds no token (no JWT)".to_owned()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |name: &str| claims.get(name).and_then(serde_json::Value::as_u64).map(Duration::from_secs);
    if let Some(ended) = seconds("exp").filter(|end| *end <= now) {
        return Some(format!(
            "holds a token that ended at {} by this node's clock; the kubelet renews it, so check the mount and the clock",
            point(ended)
        ));
    }
    if let Some(begins) = seconds("nbf").filter(|begin| *begin > now + Duration::from_secs(60)) {
        return Some(format!("holds a token that begins at {} only; check the clock of this node", point(begins)));
    }
    let audiences = claims.get("aud")?;
    let is_for_sts = |one: &serde_json::Value| one.as_str().is_some_and(|one| one.starts_with(AUDIENCE));
    let fits = is_for_sts(audiences) || audiences.as_array().is_some_and(|all| all.iter().any(is_for_sts));
    (!fits).then(|| {
        format!("holds a token for another audience than {AUDIENCE}; correct the audience of its projected volume")
    })
}

/// Whom a token speaks of, as far as it is one: its issuer and its subject.
#[must_use]
pub fn speaks_of(token: &str) -> String {
    let claims = claims(token).unwrap_or_default();
    let claim = |name: &str| claims.get(name).and_then(serde_json::Value::as_str).unwrap_or("(none)").to_owned();
    format!("sts:AssumeRoleWithWebIdentity to the subject {:?} of the issuer {:?}", claim("sub"), claim("iss"))
}

/// A time since 1970 as people read it. It stays the same from one failure to the next.
#[must_use]
pub fn point(since: Duration) -> String {
    let time = i64::try_from(since.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a time far away".to_owned(), |time| time.to_string())
}

/// The claims of a JSON Web Token. Its signature is for AWS to judge.
fn claims(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}
