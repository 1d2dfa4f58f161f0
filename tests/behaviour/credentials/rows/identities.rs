//! Identities that AWS or Kubernetes vouches for: tokens, roles and ServiceAccounts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cure, FOLDER, READS, Row};
use crate::support::Fault;

const ROLE: &str = "arn:aws:iam::123456789012:role/reader";
const STS: [&str; 1] = ["AssumeRoleWithWebIdentity"];
const NO_STS: &str = "http://127.0.0.1:9";

/// All rows of this kind.
pub fn all() -> Vec<Row> {
    [web_identity(), role(), service_account()].into_iter().flatten().collect()
}

/// A token as Kubernetes makes it, but for the signature. Times are seconds from now.
fn token(audience: &str, begins: i64, ends: i64) -> String {
    let now = Timestamp::now().as_second();
    let claims = json!({
        "aud": [audience], "iss": "https://oidc.example.com", "nbf": now + begins, "exp": now + ends,
        "sub": "system:serviceaccount:bindery-system:bindery",
    });
    format!("e30.{}.canary-7f3a", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn good_token() -> String {
    token("sts.amazonaws.com", 0, 3600)
}

const FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const PATH: &str = "{folder}/token";
const OWN_ROLE: &str = "AWS_ROLE_ARN";
const SESSION: &str = "AWS_ROLE_SESSION_NAME";

fn web(way: &'static str, text: &str) -> Row {
    Row::of("web identity", way)
        .set(FILE, PATH)
        .set(OWN_ROLE, ROLE)
        .file("token", text)
        .cured_by(Cure::File("token", good_token()))
}

/// A token file that is at fault. AWS refuses what it is not asked about as well.
fn bad_token(way: &'static str, text: &str) -> Row {
    web(way, text).says(&[FILE, PATH])
}

fn web_identity() -> Vec<Row> {
    let of_aws = |way, code| {
        let row = web(way, &good_token()).fault(&STS, Fault::Error(400, code, "no")).says(&[FILE, ROLE, code]);
        row.cured_by(Cure::Heal)
    };
    let variable = |way, name, value: &str| web(way, &good_token()).set(name, value).cured_by(Cure::Restart);
    let absent = Row { files: vec![], ..bad_token("token absent", "") };
    // What only STS can judge, since its clock and the account of the role decide.
    let judged = |way, text: &str| {
        bad_token(way, text)
            .fault(&STS, Fault::Error(400, "InvalidIdentityToken", "no"))
            .says(&["InvalidIdentityToken"])
    };
    let nobody = web("role absent", &good_token()).unset(OWN_ROLE).cured_by(Cure::Restart);
    vec![
        absent.says(&["cannot be read"]),
        bad_token("token empty", "\n").says(&["is empty"]),
        bad_token("token not readable", FOLDER).says(&["cannot be read"]),
        judged("no token in the file", "canary-7f3a").says(&["no JWT"]),
        judged("token expired", &token("sts.amazonaws.com", -3600, -600)).says(&["ended at"]),
        judged("token that has not begun", &token("sts.amazonaws.com", 600, 3600)).says(&["begins at", "clock"]),
        judged("token for another audience", &token("vault", 0, 3600)).says(&["another audience"]),
        bad_token("line end behind the token", &format!("{}\n", good_token())).says(&["a line end"]),
        of_aws("token of another issuer", "InvalidIdentityToken").says(&["https://oidc.example.com"]),
        of_aws("role that refuses", "AccessDenied").says(&["trust policy"]),
        of_aws("token that AWS calls expired", "ExpiredTokenException"),
        variable("STS out of reach", "AWS_ENDPOINT_URL_STS", NO_STS).says(&[FILE, "STS"]),
        variable("line end in the path", FILE, "{folder}/token\n").says(&[FILE, "a line end"]),
        variable("space behind the path", FILE, "{folder}/token ").says(&[FILE, "a space"]),
        nobody.says(&[OWN_ROLE, "missing"]),
        variable("role with a line end", OWN_ROLE, &format!("{ROLE}\n")).says(&[OWN_ROLE, "a line end"]),
        variable("role with a space", OWN_ROLE, &format!(" {ROLE}")).says(&[OWN_ROLE, "a space"]),
        variable("role by its name", OWN_ROLE, "reader").says(&[OWN_ROLE, "ARN of a role"]),
        variable("session name with a space", SESSION, "the operator").says(&[SESSION, "a space"]),
    ]
}

fn assumed(way: &'static str) -> Row {
    let grant = json!({"region": "eu-west-1", "roleArn": ROLE, "externalId": "bindery-test"});
    Row { grant, ..Row::of("role of the grant", way).with_keys() }.cured_by(Cure::Heal)
}

fn role() -> Vec<Row> {
    let sts = |way, code| {
        let row = assumed(way).fault(&["AssumeRole"], Fault::Error(403, code, "no"));
        row.says(&[ROLE, "{namespace}", code])
    };
    let lame = assumed("own key with a line end").set("AWS_ACCESS_KEY_ID", "AKIAGOOD\n").cured_by(Cure::Restart);
    let away = assumed("STS out of reach").set("AWS_ENDPOINT_URL_STS", NO_STS).cured_by(Cure::Restart);
    let expired = Fault::Error(400, "ExpiredTokenException", "expired");
    vec![
        sts("STS refuses it", "AccessDenied").says(&["trust policy", "external id"]),
        sts("own key unknown to STS", "InvalidClientTokenId").says(&["AWS_ACCESS_KEY_ID"]),
        sts("own session expired", "ExpiredToken").says(&["AWS_ACCESS_KEY_ID"]),
        sts("STS is off in the region", "RegionDisabledException").says(&["eu-west-1"]),
        sts("STS is away", "ServiceUnavailable"),
        lame.says(&["AWS_ACCESS_KEY_ID", "a line end"]),
        away.says(&[ROLE, "STS"]),
        assumed("its session expired").fault(&READS, expired).says(&[ROLE, "ExpiredTokenException"]),
    ]
}

const ANNOTATION: &str = "eks.amazonaws.com/role-arn";

fn account(way: &'static str, annotations: Value) -> Row {
    let grant = json!({"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "reader"});
    Row { grant, account: Some(annotations), ..Row::of("ServiceAccount of the grant", way) }
        .says(&["ServiceAccount", "{namespace}/reader"])
        .cured_by(Cure::Account(json!({ANNOTATION: ROLE})))
}

fn service_account() -> Vec<Row> {
    let annotated = |way, role: &str| account(way, json!({ANNOTATION: role})).says(&[ANNOTATION]);
    let good = |way| account(way, json!({ANNOTATION: ROLE}));
    let of_aws = |way, code, status| {
        let row = good(way).fault(&STS, Fault::Error(status, code, "no"));
        row.says(&[code, ROLE]).cured_by(Cure::Heal)
    };
    let absent = Row { account: None, ..account("absent", json!({})) };
    let away = good("STS out of reach").set("AWS_ENDPOINT_URL_STS", NO_STS);
    let other = account("no annotation, and the grant is changed", json!({})).with_keys().says(&[ANNOTATION]);
    vec![
        absent.says(&["does not exist"]),
        account("no annotation", json!({})).says(&[ANNOTATION]),
        annotated("line end in the annotation", &format!("{ROLE}\n")).says(&["a line end"]),
        annotated("space in the annotation", &format!(" {ROLE}")).says(&["a space"]),
        annotated("role by its name", "reader").says(&["ARN of a role"]),
        annotated("empty annotation", ""),
        other.cured_by(Cure::Grant(json!({"region": "eu-west-1", "accountId": "123456789012"}))),
        of_aws("role that refuses", "AccessDenied", 403).says(&["trust policy"]),
        of_aws("issuer unknown to AWS", "InvalidIdentityToken", 400),
        of_aws("token that AWS calls expired", "ExpiredTokenException", 400),
        away.says(&["STS"]).cured_by(Cure::Restart),
    ]
}

/// A good role, for rows about what it needs besides.
pub fn by_role(link: &'static str, way: &'static str) -> Row {
    Row { link, ..assumed(way) }.says(&[ROLE])
}

/// The same of a ServiceAccount.
pub fn by_account(link: &'static str, way: &'static str) -> Row {
    Row { link, ..account(way, json!({ANNOTATION: ROLE})) }
}

/// The same of a web identity.
pub fn by_token(link: &'static str, way: &'static str) -> Row {
    Row { link, ..web(way, &good_token()) }.says(&[FILE])
}
