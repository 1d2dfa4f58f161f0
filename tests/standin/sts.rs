//! As much of STS as a program needs to have an identity: every role is assumed, and nothing is checked.
//!
//! It speaks the query protocol: a form goes in, XML comes out.

use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The operation that a form names; none if it is no call of STS.
pub fn operation(form: &str) -> Option<String> {
    parameter(form, "Action")
}

/// The answer to a call: status and XML.
pub fn answer(form: &str, account: &str, request_id: &str, now: SystemTime) -> (u16, String) {
    let operation = operation(form).unwrap_or_default();
    let result = match operation.as_str() {
        "GetCallerIdentity" => format!(
            "<Arn>arn:aws:sts::{account}:assumed-role/standin/session</Arn><UserId>AROASTANDIN:session</UserId>\
             <Account>{account}</Account>"
        ),
        "AssumeRole" | "AssumeRoleWithWebIdentity" => assumed(form, account, now),
        _ => {
            let error = format!("<Type>Sender</Type><Code>InvalidAction</Code><Message>{operation}</Message>");
            let body =
                format!("<ErrorResponse><Error>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>");
            return (400, body);
        }
    };
    let metadata = format!("<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>");
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <{operation}Result>{result}</{operation}Result>{metadata}</{operation}Response>"
    );
    (200, body)
}

/// The same credentials for every role; whose they are stands in the ARN.
fn assumed(form: &str, account: &str, now: SystemTime) -> String {
    let role = parameter(form, "RoleArn").unwrap_or_default();
    let session = parameter(form, "RoleSessionName").unwrap_or_default();
    let name = role.rsplit('/').next().unwrap_or_default();
    let owner = role.split(':').nth(4).filter(|owner| !owner.is_empty()).unwrap_or(account);
    let ends = DateTime::from(now + HOUR).fmt(Format::DateTime).unwrap_or_default();
    format!(
        "<AssumedRoleUser><Arn>arn:aws:sts::{owner}:assumed-role/{name}/{session}</Arn>\
         <AssumedRoleId>AROASTANDIN:{session}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>ASIASTANDIN</AccessKeyId><SecretAccessKey>standin</SecretAccessKey>\
         <SessionToken>standin</SessionToken><Expiration>{ends}</Expiration></Credentials>"
    )
}

/// A parameter of a form, decoded.
fn parameter(form: &str, name: &str) -> Option<String> {
    let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let (mut bytes, mut rest) = (Vec::new(), value.bytes());
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from(hex(rest.next())? * 16 + hex(rest.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_assumed_for_an_hour() {
        let form = "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fteam%2Fapp\
                    &RoleSessionName=app+one";
        assert_eq!(operation(form).as_deref(), Some("AssumeRole"));
        let (status, body) = answer(form, "123456789012", "id", SystemTime::UNIX_EPOCH);
        assert_eq!(status, 200);
        for part in [
            "<Arn>arn:aws:sts::210987654321:assumed-role/app/app one</Arn>",
            "<Expiration>1970-01-01T01:00:00Z</Expiration>",
            "<RequestId>id</RequestId>",
        ] {
            assert!(body.contains(part), "{body}");
        }
        assert_eq!(answer("Action=Dance", "1", "id", SystemTime::UNIX_EPOCH).0, 400);
    }
}
