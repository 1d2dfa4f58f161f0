//! Keys that a person wrote down: in variables and in files.

use super::{Cure, FOLDER, GOOD, READS, Row};
use crate::support::Fault;

const ID: &str = "AWS_ACCESS_KEY_ID";
const KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION: &str = "AWS_SESSION_TOKEN";

fn variable(way: &'static str) -> Row {
    Row::of("variables", way).with_keys()
}

/// The variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
pub fn variables() -> Vec<Row> {
    let refused = |way, code| variable(way).fault(&READS, Fault::Error(400, code, "The security token is invalid."));
    vec![
        variable("id with a line end").set(ID, "AKIAGOOD\n").says(&[ID, "a line end"]),
        variable("id with CRLF").set(ID, "AKIAGOOD\r\n").says(&[ID, "a line end"]),
        variable("id with a space behind").set(ID, "AKIAGOOD ").says(&[ID, "a space"]),
        variable("id with a space before").set(ID, " AKIAGOOD").says(&[ID, "a space"]),
        variable("id in quotation marks").set(ID, "\"AKIAGOOD\"").says(&[ID, "a quotation mark"]),
        variable("key with a line end").set(KEY, "canary-7f3a-secret\n").says(&[KEY, "a line end"]),
        variable("key with a space before").set(KEY, " canary-7f3a-secret").says(&[KEY, "a space"]),
        variable("session token with a line end in it")
            .set(SESSION, "canary-7f3a\ntoken")
            .says(&[SESSION, "a line end"]),
        variable("id empty").set(ID, "").says(&[ID, "missing or empty"]),
        variable("key empty").set(KEY, " ").says(&[KEY, "missing or empty"]),
        variable("key absent").unset(KEY).says(&[KEY, "missing or empty"]),
        variable("both empty").set(ID, "").set(KEY, "").says(&["no link of the credential chain", ID]),
        variable("nothing at all").unset(ID).unset(KEY).says(&["no link of the credential chain", ID]),
        variable("key unknown to AWS")
            .set(ID, "AKIAOTHER")
            .fault(&READS, Fault::OnlyKey(GOOD))
            .says(&[ID, "UnrecognizedClientException"]),
        refused("session expired", "ExpiredTokenException").set(SESSION, "canary-7f3a-token").says(&[ID, SESSION]),
        refused("wrong secret key", "InvalidSignatureException").says(&[ID, KEY]),
    ]
}

const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
const PATH: &str = "{folder}/credentials";

fn profile(id: &str) -> String {
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = canary-7f3a-secret\n")
}

fn file(way: &'static str, text: &str) -> Row {
    let cure = Cure::File("credentials", profile(GOOD));
    Row::of("credentials file", way).set(FILE, PATH).file("credentials", text).says(&[PATH]).cured_by(cure)
}

/// The files of profiles.
pub fn files() -> Vec<Row> {
    let absent = Row { files: vec![], ..file("absent", "") };
    vec![
        absent.says(&[FILE, "cannot be read"]),
        file("empty", "").says(&[FILE, "no profile"]),
        file("not readable", FOLDER).says(&[FILE, "cannot be read"]),
        file("half a profile", "[default]\naws_access_key_id = AKIAGOOD\n").says(&[FILE]),
        file("not a profile", "{\"aws_access_key_id\": \"AKIAGOOD\"}").says(&[FILE]),
        file("id in quotation marks", &profile("\"AKIAGOOD\"")).says(&[FILE, "a quotation mark"]),
        file("id with a space in it", &profile("AKIA GOOD")).says(&[FILE, "a space"]),
        file("key unknown to AWS", &profile("AKIAOTHER"))
            .fault(&READS, Fault::OnlyKey(GOOD))
            .says(&[FILE, "UnrecognizedClientException"]),
        file("profile that is not in it", &profile(GOOD))
            .set("AWS_PROFILE", "production")
            .says(&["AWS_PROFILE", "\"production\""])
            .cured_by(Cure::File("credentials", profile(GOOD).replace("default", "production"))),
        file("source profile absent", "")
            .set("AWS_CONFIG_FILE", "{folder}/config")
            .file("config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/own\nsource_profile = base\n")
            .cured_by(Cure::File("credentials", profile(GOOD).replace("default", "base"))),
        file("line end in the path", &profile(GOOD))
            .set(FILE, "{folder}/credentials\n")
            .says(&[FILE, "a line end"])
            .cured_by(Cure::Restart),
    ]
}
