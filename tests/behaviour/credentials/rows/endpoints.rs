//! The endpoints inside a cluster that give keys.

use serde_json::json;

use super::super::metadata::{Answer, NODE, POD, ROLES, keys};
use super::{Cure, FOLDER, READS, Row};
use crate::support::Fault;

const NOTHING: &str = "http://127.0.0.1:9";
/// The id of the key that AWS knows.
const GOOD: &str = "ASIAGOOD";

/// All rows of this kind.
pub fn all() -> Vec<Row> {
    [container(), instance()].into_iter().flatten().collect()
}

const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const PATH: &str = "{folder}/pod-token";

fn pod(way: &'static str) -> Row {
    Row::of("Pod Identity", way)
        .set(URI, format!("{{metadata}}{POD}"))
        .set(TOKEN, PATH)
        .file("pod-token", "canary-7f3a")
        .cured_by(Cure::Answer(POD, 200, keys(GOOD, 3600)))
}

fn token(way: &'static str, text: &str) -> Row {
    let row = Row { files: vec![("pod-token", text.to_owned())], ..pod(way) };
    row.says(&[TOKEN, PATH]).cured_by(Cure::File("pod-token", "canary-7f3a".to_owned()))
}

fn container() -> Vec<Row> {
    let answers = |way, status, text: &str| pod(way).answer(POD, Answer::Now(status, text.to_owned())).says(&[URI]);
    let uri = |way, uri: &str| pod(way).set(URI, uri).says(&[URI]).cured_by(Cure::Restart);
    let absent = Row { files: vec![], ..token("token absent", "") };
    let unknown = answers("key unknown to AWS", 200, &keys("ASIAOTHER", 3600)).fault(&READS, Fault::OnlyKey(GOOD));
    vec![
        absent.says(&["cannot be read"]),
        token("token empty", "").says(&["is empty"]),
        token("token not readable", FOLDER).says(&["cannot be read"]),
        token("line end behind the token", "canary-7f3a\n").says(&["a line end"]),
        answers("not allowed", 401, "no association").says(&["401"]),
        answers("no association", 404, "no association").says(&["404"]),
        answers("no keys in the answer", 200, "<html>canary-7f3a</html>"),
        answers("key with a line end", 200, &keys("ASIAGOOD\n", 3600)).says(&["a line end"]),
        answers("keys that have ended", 200, &keys(GOOD, -600)).says(&["ended"]),
        unknown.says(&["UnrecognizedClientException"]),
        pod("no answer").answer(POD, Answer::Never).says(&[URI]),
        uri("nothing listens", NOTHING).says(&[NOTHING]),
        uri("line end in the URI", "{metadata}/v1/credentials\n").says(&["a line end"]),
        uri("space in the URI", " {metadata}/v1/credentials").says(&["a space"]),
        uri("host that nobody may ask", "http://192.0.2.1/v1/credentials").says(&["192.0.2.1"]),
    ]
}

const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

fn node(way: &'static str) -> Row {
    Row::of("instance metadata", way)
        .set("AWS_EC2_METADATA_DISABLED", "false")
        .set(ENDPOINT, "{metadata}")
        .says(&["instance metadata"])
        .cured_by(Cure::Answer(NODE, 200, keys(GOOD, 3600)))
}

fn instance() -> Vec<Row> {
    let answers = |way, text: &str| node(way).answer(NODE, Answer::Now(200, text.to_owned()));
    let unauthorized = json!({"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role"});
    let no_url = node("endpoint that is no URL").set(ENDPOINT, "localhost\n").cured_by(Cure::Restart);
    let no_url = Row { says: vec!["a line end"], ..no_url };
    let roleless = node("no role").answer(ROLES, Answer::Now(404, String::new())).says(&["role"]);
    let unknown = answers("key unknown to AWS", &keys("ASIAOTHER", 3600)).fault(&READS, Fault::OnlyKey(GOOD));
    vec![
        node("nothing listens").set(ENDPOINT, NOTHING).cured_by(Cure::Restart),
        no_url.says(&[ENDPOINT]),
        roleless.cured_by(Cure::Answer(ROLES, 200, "node".to_owned())),
        answers("role that does not trust EC2", &unauthorized.to_string()),
        answers("no keys in the answer", "<html>canary-7f3a</html>"),
        answers("key with a space", &keys("ASIA GOOD", 3600)).says(&["a space"]),
        unknown.says(&["UnrecognizedClientException"]),
        node("no answer").answer(NODE, Answer::Never),
    ]
}
