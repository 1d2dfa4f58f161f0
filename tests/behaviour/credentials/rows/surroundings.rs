//! What every link needs besides: a region, an account, a clock and a way to AWS.

use serde_json::json;

use super::identities::{by_account, by_role, by_token};
use super::{Cure, READS, Row};
use crate::support::Fault;

/// All rows of this kind.
pub fn all() -> Vec<Row> {
    [region(), account(), clock(), endpoint()].into_iter().flatten().collect()
}

fn region() -> Vec<Row> {
    let of = |way| Row { grant: json!({}), ..Row::of("region", way).with_keys() };
    let named = |way, name: &str| of(way).set("AWS_REGION", name).says(&["AWS_REGION"]);
    let absent = |row: Row| {
        let row = Row { condition: "Granted", reason: "AccessDenied", ..row };
        let row = row.says(&["names no region", "AWS_REGION", "--aws-region"]);
        row.cured_by(Cure::Grant(json!({"region": "eu-west-1"})))
    };
    vec![
        absent(of("absent").unset("AWS_REGION")),
        absent(named("empty", "")),
        named("line end", "eu-west-1\n").says(&["a line end"]),
        named("space behind", "eu-west-1 ").says(&["a space"]),
        named("space before", " eu-west-1").says(&["a space"]),
        named("its name", "Ireland").says(&["\"Ireland\""]),
        named("a zone", "eu-west-1a").says(&["\"eu-west-1a\""]),
    ]
}

fn account() -> Vec<Row> {
    const OWN: [&str; 1] = ["GetCallerIdentity"];
    let of = |way| {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:credentials/app";
        Row { secret: arn.to_owned(), ..Row::of("account", way).with_keys() }
            .says(&["sts:GetCallerIdentity", "accountId"])
            .cured_by(Cure::Grant(json!({"region": "eu-west-1", "accountId": "123456789012"})))
    };
    let refused = |way, code| of(way).fault(&OWN, Fault::Error(403, code, "no")).says(&[code, "AWS_ACCESS_KEY_ID"]);
    let ahead = Fault::Skewed(403, "SignatureDoesNotMatch", -600);
    vec![
        refused("STS does not know the key", "InvalidClientTokenId"),
        refused("STS refuses", "AccessDenied"),
        refused("STS is away", "ServiceUnavailable"),
        of("STS out of reach").set("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9"),
        of("clock ten minutes ahead").fault(&OWN, ahead).says(&["the clock of this node"]),
    ]
}

/// AWS answers with its own time, by which the operator's is off by ten minutes.
fn clock() -> Vec<Row> {
    const ASSUME: [&str; 2] = ["AssumeRole", "AssumeRoleWithWebIdentity"];
    let skewed = |row: Row, operations: &[&'static str], code, ahead| {
        let way = if ahead < 0 { "10 minutes ahead of" } else { "behind" };
        let row = row.fault(operations, Fault::Skewed(403, code, ahead)).says(&["the clock of this node", way]);
        row.cured_by(Cure::Heal)
    };
    let own = |way| Row::of("clock", way).with_keys();
    vec![
        skewed(own("ten minutes ahead"), &READS, "InvalidSignatureException", -600),
        skewed(own("ten minutes behind"), &READS, "InvalidSignatureException", 600),
        skewed(own("ahead, by its own code"), &READS, "RequestTimeTooSkewed", -600),
        skewed(own("behind, by its own code"), &READS, "RequestExpired", 600),
        skewed(by_role("clock", "ahead, at the role"), &ASSUME, "SignatureDoesNotMatch", -600),
        skewed(by_role("clock", "behind, at the role"), &ASSUME, "SignatureDoesNotMatch", 600),
        skewed(by_token("clock", "ahead, at the token"), &ASSUME, "ExpiredTokenException", -600),
        skewed(by_token("clock", "behind, at the token"), &ASSUME, "InvalidIdentityToken", 600),
        skewed(by_account("clock", "behind, at the ServiceAccount"), &ASSUME, "InvalidIdentityToken", 600),
    ]
}

fn endpoint() -> Vec<Row> {
    const URL: &str = "AWS_ENDPOINT_URL";
    let of = |way, url: &str| Row::of("endpoint", way).with_keys().set(URL, url).says(&[URL]);
    let away = |way, url: &str| Row { reason: "AwsUnavailable", ..of(way, url) };
    vec![
        of("empty", "").says(&["is empty"]),
        of("line end", "{aws}\n").says(&["a line end"]),
        of("space before", " {aws}").says(&["a space"]),
        of("no URL", "localhost").says(&["\"localhost\""]),
        of("of another protocol", "ftp://127.0.0.1:9").says(&["ftp://127.0.0.1:9"]),
        away("nothing listens", "http://127.0.0.1:9").says(&["http://127.0.0.1:9"]),
        away("host that is nowhere", "http://secretsmanager.invalid").says(&["secretsmanager.invalid"]),
        away("nothing listens for TLS", "https://127.0.0.1:9").says(&["https://127.0.0.1:9"]),
        away("proxy that does not answer", "http://secretsmanager.invalid")
            .set("HTTP_PROXY", "http://127.0.0.1:9")
            .says(&["HTTP_PROXY"]),
    ]
}
