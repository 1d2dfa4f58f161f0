use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value as Json;

use crate::domain::payload::Payload;
use crate::domain::payload::error::{JsonKind, PayloadError, PayloadProblem};
use crate::domain::payload::pointer::pointer_root;

const GUIDE: &str = include_str!("../../../tests/fixtures/guide-app.json.invalid");

fn get(text: &str, key: &str) -> Option<String> {
    let payload = Payload::text(text.to_owned());
    let value = payload.object().unwrap().get(key)?;
    Some(String::from_utf8(value.expose().to_vec()).unwrap())
}

fn error(text: &str) -> PayloadError {
    Payload::text(text.to_owned()).object().unwrap_err()
}

fn position(text: &str) -> (usize, usize) {
    let PayloadError { line, column, .. } = error(text);
    (line, column)
}

/// The guide's sample lacks a comma at the end of line 18; like every JSON parser we can only see it in line 19.
#[test]
fn the_guides_sample_payload_is_refused_at_the_missing_comma() {
    let error = error(GUIDE);
    assert_eq!((error.line, error.column), (19, 3));
    let by_serde_json = serde_json::from_str::<Json>(GUIDE).unwrap_err();
    assert_eq!((by_serde_json.line(), by_serde_json.column()), (19, 3));
    assert_eq!(
        error.to_string(),
        "it is malformed JSON (line 19, column 3): expected `,` or `}` (a comma may be missing after the entry before)"
    );
    let repaired = GUIDE.replace("/metrics\"\n", "/metrics\",\n");
    assert_eq!(get(&repaired, "SUPABASE_URL").as_deref(), Some("https://xyz.supabase.co"));
    assert_eq!(Payload::text(repaired).object().unwrap().iter().count(), 21);
}

#[test]
fn values_are_published_as_written() {
    let text = r#" { "text" : "a\"b\\c\/\b\f\n\r\té\u00e9\ud83d\ude00\u0000" , "empty":"", "int": 12345678901234567890,
        "big":1e400,"money": 1.10, "minus" : -0 ,"yes":true, "no" : false,"null":null,
        "list": [ 1,  "a", {"x": null} ], "map":{"b" : 1 , "a":"\u0041"}, "": "nameless", "k\u0065y": "escaped name" } "#;
    let cases = [
        ("text", "a\"b\\c/\u{8}\u{c}\n\r\téé😀\0"),
        ("empty", ""),
        ("int", "12345678901234567890"),
        ("big", "1e400"),
        ("money", "1.10"),
        ("minus", "-0"),
        ("yes", "true"),
        ("no", "false"),
        ("list", r#"[ 1,  "a", {"x": null} ]"#),
        ("map", r#"{"b" : 1 , "a":"\u0041"}"#),
        ("", "nameless"),
        ("key", "escaped name"),
        ("/map/a", "A"),
        ("/list/1", "a"),
        ("/list/2", r#"{"x": null}"#),
    ];
    for (key, value) in cases {
        assert_eq!(get(text, key).as_deref(), Some(value), "{key}");
    }
    for absent in ["null", "/list/2/x", "Text", "text ", "missing", "k\\u0065y"] {
        assert_eq!(get(text, absent), None, "{absent}");
    }
    let payload = Payload::text(text.to_owned());
    let object = payload.object().unwrap();
    let names: Vec<&str> = object.iter().map(|field| field.key()).collect();
    assert_eq!(names, ["text", "empty", "int", "big", "money", "minus", "yes", "no", "null", "list", "map", "", "key"]);
}

/// The examples of RFC 6901 §5, and its rules for array indices.
#[test]
fn json_pointers() {
    let rfc = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
    let cases = [
        ("/foo", Some(r#"["bar","baz"]"#)),
        ("/foo/0", Some("bar")),
        ("/", Some("0")),
        ("/a~1b", Some("1")),
        ("/c%d", Some("2")),
        ("/e^f", Some("3")),
        ("/g|h", Some("4")),
        ("/i\\j", Some("5")),
        ("/k\"l", Some("6")),
        ("/ ", Some("7")),
        ("/m~0n", Some("8")),
        ("/foo/2", None),
        ("/foo/-", None),
        ("/foo/00", None),
        ("/foo/01", None),
        ("/foo/+1", None),
        ("/foo/", None),
        ("/foo/99999999999999999999999", None),
        ("/foo/0/x", None),
        ("/m~n", None),
        ("/m~2n", None),
        ("foo/0", None),
        ("/foo/0~", None),
    ];
    for (pointer, value) in cases {
        assert_eq!(get(rfc, pointer).as_deref(), value, "{pointer}");
    }
}

#[test]
fn a_literal_key_goes_before_a_pointer() {
    let text = r#"{"db.password": "dots", "/shmoo": "literal", "shmoo": "pointed", "a": {"b": 1}, "/a/b": null}"#;
    assert_eq!(get(text, "db.password").as_deref(), Some("dots"));
    assert_eq!(get(text, "/shmoo").as_deref(), Some("literal"));
    assert_eq!(get(text, "/a/b"), None, "a literal key that is null is absent, its pointer reading is not tried");
    let payload = Payload::text(text.to_owned());
    let object = payload.object().unwrap();
    assert_eq!(object.field("/shmoo").unwrap().key(), "/shmoo");
    assert_eq!(object.field("/db.password").unwrap().key(), "db.password");
}

#[test]
fn pointer_roots() {
    for (key, root) in
        [("/a/b", Some("a")), ("/a~1b~0/c", Some("a/b~")), ("/", Some("")), ("a/b", None), ("", None), ("/~", None)]
    {
        assert_eq!(pointer_root(key).as_deref(), root, "{key}");
    }
}

#[test]
fn the_whole_payload_is_published_byte_for_byte() {
    for bytes in [&b""[..], b"\xff\x00\n", b"\xef\xbb\xbf{}\r\n", b" plain "] {
        assert_eq!(Payload::binary(bytes.to_vec()).whole().expose(), bytes);
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_not_counted() {
    assert_eq!(get("\u{feff}{\"a\":1}", "a").as_deref(), Some("1"));
    assert_eq!(position("\u{feff}{\"a\" 1}"), (1, 6));
    assert_eq!(position("\u{feff}\u{feff}{}"), (1, 1));
}

#[test]
fn binary_json_is_json() {
    let payload = Payload::binary(br#"{"a":"b"}"#.to_vec());
    assert_eq!(payload.object().unwrap().get("a").unwrap().expose(), b"b");
}

#[test]
fn what_is_no_object_is_named() {
    use PayloadProblem::{Empty, NotUtf8, OtherJson, PlainText};
    let cases: &[(&[u8], PayloadProblem, (usize, usize))] = &[
        (b"", Empty, (1, 1)),
        (b" \n ", Empty, (2, 2)),
        (b"hunter2", PlainText, (1, 1)),
        (b"\n  postgresql://u:p@h/d", PlainText, (2, 3)),
        (b"true or not", PlainText, (1, 1)),
        (b"'a'", PlainText, (1, 1)),
        (b"-----BEGIN CERTIFICATE-----", PlainText, (1, 1)),
        (b"[1, 2]", OtherJson(JsonKind::Array), (1, 1)),
        (b" \"text\"", OtherJson(JsonKind::String), (1, 2)),
        (b"42", OtherJson(JsonKind::Number), (1, 1)),
        (b"-1e400", OtherJson(JsonKind::Number), (1, 1)),
        (b"false", OtherJson(JsonKind::Boolean), (1, 1)),
        (b"null", OtherJson(JsonKind::Null), (1, 1)),
        (b"\xff\xfe{\x00", NotUtf8, (1, 1)),
        ("{\n\"é\": \"".as_bytes(), PayloadProblem::Syntax("it ends too early (the end may be cut off)"), (2, 7)),
        (b"{\n\"\xc3\xa9\": \"\xff\"}", NotUtf8, (2, 7)),
    ];
    for (bytes, problem, at) in cases {
        let error = Payload::binary(bytes.to_vec()).object().unwrap_err();
        assert_eq!(
            (&error.problem, (error.line, error.column)),
            (problem, *at),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn syntax_errors_are_where_the_text_goes_wrong() {
    let cases = [
        ("{", (1, 2), "it ends too early"),
        ("{\"a\":1", (1, 7), "it ends too early"),
        ("{\"a\":\"b}", (1, 9), "it ends too early"),
        ("{\"a\":1,}", (1, 8), "a comma too many before `}`"),
        ("{\"a\":[1,]}", (1, 9), "a comma too many before `]`"),
        ("{,}", (1, 2), "a key in double quotes"),
        ("{a:1}", (1, 2), "a key in double quotes"),
        ("{'a':1}", (1, 2), "a single or typographic quotation mark"),
        ("{\"a\" 1}", (1, 6), "expected `:`"),
        ("{\"a\":}", (1, 6), "expected a value"),
        ("{\"a\":'b'}", (1, 6), "a single or typographic quotation mark"),
        ("{\"a\":\n b}", (2, 2), "expected a value"),
        ("{\"a\":tru}", (1, 9), "expected `true`"),
        ("{\"a\":NaN}", (1, 6), "expected a value"),
        ("{\"a\":01}", (1, 7), "leading zero"),
        ("{\"a\":1.}", (1, 8), "lacks a digit"),
        ("{\"a\":.5}", (1, 6), "expected a value"),
        ("{\"a\":+5}", (1, 6), "expected a value"),
        ("{\"a\":1e}", (1, 8), "lacks a digit"),
        ("{\"a\":\"x\ny\"}", (1, 8), "control character"),
        ("{\"a\":\"\\x41\"}", (1, 8), "unknown escape"),
        ("{\"a\":\"\\u00g0\"}", (1, 11), "four hexadecimal digits"),
        ("{\"a\":\"\\ud800\"}", (1, 8), "surrogate"),
        ("{\"a\":\"\\ud800\\u0041\"}", (1, 8), "surrogate"),
        ("{\"a\":\"\\udc00\"}", (1, 8), "surrogate"),
        ("{\"a\":1 // note\n}", (1, 8), "a comment stands here"),
        ("{\"a\":[1 2]}", (1, 9), "expected `,` or `]`"),
        ("{} {}", (1, 4), "more text after the end"),
        ("{}\u{a0}", (1, 3), "a no-break space"),
        ("[1,", (1, 4), "it ends too early"),
    ];
    for (text, at, problem) in cases {
        let error = error(text);
        assert_eq!((error.line, error.column), at, "{text}: {error}");
        assert!(matches!(error.problem, PayloadProblem::Syntax(_)), "{text}: {error}");
        assert!(error.to_string().contains(problem), "{text}: {error}");
    }
}

#[test]
fn duplicate_keys_are_refused_at_any_depth() {
    let cases = [
        ("{\"a\":1,\"a\":1}", (1, 8)),
        ("{\"a\":1,\n \"\\u0061\":2}", (2, 2)),
        ("{\"x\":[{\"y\":{\"a\":1,\"b\":2,\"a\":3}}]}", (1, 25)),
        ("{\"b\":1,\"a\":1,\n\"a\":2,\"b\":2}", (2, 1)),
        ("{\"\":1,\"\":2}", (1, 7)),
    ];
    for (text, at) in cases {
        let error = error(text);
        assert_eq!(error.problem, PayloadProblem::DuplicateKey, "{text}");
        assert_eq!((error.line, error.column), at, "{text}");
    }
    assert!(Payload::text("{\"a\":{\"a\":1},\"A\":[{\"a\":1},{\"a\":2}]}".to_owned()).object().is_ok());
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "{\"a\":[".repeat(levels / 2), "]}".repeat(levels / 2));
    assert!(Payload::text(nested(128)).object().is_ok());
    assert_eq!(error(&nested(130)).to_string().matches("128 levels").count(), 1);
    assert!(error(&"{\"a\":".repeat(1_000_000)).to_string().contains("128 levels"));
}

#[test]
fn debug_shows_nothing() {
    let payload = Payload::text("{\"secret-name\":\"secret-value\"}".to_owned());
    let object = payload.object().unwrap();
    let shown = format!("{payload:?} {object:?} {:?}", object.field("secret-name"));
    assert_eq!(shown, "Payload(..) Object(..) Some(Field(..))");
}

/// The largest payload that Secrets Manager stores has 64 KiB; 16 times that shows that nothing is quadratic.
#[test]
fn large_payloads_take_linear_time() {
    let started = Instant::now();
    let members: Vec<String> = (0..60_000).map(|n| format!("\"key-{n}\":\"value {n}\"")).collect();
    let wide = Payload::text(format!("{{{}}}", members.join(",")));
    let object = wide.object().unwrap();
    for n in 0..60_000 {
        assert!(object.get(&format!("key-{n}")).is_some());
    }
    let escaped = Payload::text(format!("{{\"a\":\"{}\"}}", "\\u00e9".repeat(170_000)));
    assert_eq!(escaped.object().unwrap().get("a").unwrap().expose().len(), 340_000);
    let deep = Payload::text(format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127)));
    assert!(deep.object().unwrap().get(&format!("/a{}", "/0".repeat(127))).is_some());
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

/// JSON texts with odd spacing, escapes and number forms.
fn json_text() -> impl Strategy<Value = String> {
    let string = || {
        "([a-c/~é ]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-f]{2}|\\\\ud83d\\\\ude0[0-9]){0,6}".prop_map(|s| format!("\"{s}\""))
    };
    let leaf = prop_oneof![
        string(),
        "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
    ];
    let space = || "[ \n\t\r]{0,2}";
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..4), space())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            (proptest::collection::vec((string(), inner), 0..4), space()).prop_map(|(members, s)| {
                let members: Vec<_> = members.into_iter().map(|(k, v)| format!("{k}{s}:{s}{v}")).collect();
                format!("{{{s}{}{s}}}", members.join(&format!("{s},{s}")))
            }),
        ]
    });
    (proptest::collection::vec((string(), value), 0..5), space()).prop_map(|(members, s)| {
        let members: Vec<_> = members.into_iter().map(|(k, v)| format!("{k}:{s}{v}{s}")).collect();
        format!("{s}{{{}}}{s}", members.join(&format!(",{s}")))
    })
}

/// The published form of a JSON value, by `serde_json`'s reading of it.
fn published(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn reads_what_serde_json_reads(text in json_text()) {
        let payload = Payload::text(text.clone());
        let expected: Json = serde_json::from_str(&text).unwrap();
        match payload.object() {
            Err(error) => prop_assert_eq!(error.problem, PayloadProblem::DuplicateKey, "{}", text),
            Ok(object) => {
                let expected = expected.as_object().unwrap();
                prop_assert_eq!(object.iter().count(), expected.len());
                for (key, value) in expected {
                    let found = object.get(key).map(|value| String::from_utf8(value.expose().to_vec()).unwrap());
                    match value {
                        // As written, not as serde_json would write it: compare what both mean.
                        Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                            prop_assert_eq!(&serde_json::from_str::<Json>(&found.unwrap()).unwrap(), value);
                        }
                        other => prop_assert_eq!(found, published(other)),
                    }
                }
            }
        }
    }

    #[test]
    fn pointers_lead_where_serde_json_leads(text in json_text(), pointer in "(/([a-c~]|~0|~1|[0-3]){0,2}){1,3}") {
        let payload = Payload::text(text.clone());
        if let Ok(object) = payload.object() {
            let expected: Json = serde_json::from_str(&text).unwrap();
            // serde_json reads a wrong escape as itself; RFC 6901 §3 calls it an error.
            let well_formed = !pointer.replace("~0", "").replace("~1", "").contains('~');
            let found = object.get(&pointer).map(|value| String::from_utf8(value.expose().to_vec()).unwrap());
            match expected.get(&pointer).or_else(|| expected.pointer(&pointer).filter(|_| well_formed)) {
                None | Some(Json::Null) => prop_assert_eq!(found, None),
                Some(Json::String(string)) => prop_assert_eq!(found.as_ref(), Some(string)),
                Some(other) => prop_assert_eq!(&serde_json::from_str::<Json>(&found.unwrap()).unwrap(), other),
            }
        }
    }

    /// Damaged texts: the same verdict as `serde_json`, and the same position but where it counts otherwise.
    #[test]
    fn finds_errors_where_serde_json_does(
        text in json_text(), at in any::<prop::sample::Index>(), damage in "[{}\\[\\],:\"\\\\a0-9. \n-]{0,2}", cut in any::<bool>(),
    ) {
        let text = text.replace('é', "e");
        let at = at.index(text.len() + 1);
        let damaged = if cut { format!("{}{damage}", &text[..at]) } else { format!("{}{damage}{}", &text[..at], &text[at..]) };
        let ours = Payload::text(damaged.clone()).object().map(|_| ());
        let theirs = serde_json::from_str::<Json>(&damaged);
        match (&ours, &theirs) {
            (Ok(()), Ok(theirs)) => prop_assert!(theirs.is_object(), "{damaged:?}"),
            (Err(error), Ok(Json::Object(_))) => prop_assert_eq!(error.problem, PayloadProblem::DuplicateKey, "{:?}", damaged),
            (Err(error), Ok(_)) => prop_assert!(!matches!(error.problem, PayloadProblem::Syntax(_)), "{damaged:?}: {error}"),
            (Ok(()), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{damaged:?}: {error}"),
            (Err(ours), Err(theirs)) => {
                let reason = theirs.to_string();
                let positions_differ = ["escape", "control character", "out of range"].iter().any(|r| reason.contains(r))
                    || ours.to_string().contains("\\u escape");
                if matches!(ours.problem, PayloadProblem::Syntax(_)) && !positions_differ && theirs.column() > 0 {
                    // At the end of the text serde_json points to the last character, we behind it. At a line end that
                    // is wrong it points to column 0 of the next line; those are left out.
                    let column = theirs.column() + usize::from(theirs.is_eof());
                    prop_assert_eq!((ours.line, ours.column), (theirs.line(), column), "{:?}: {} / {}", damaged, ours, reason);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error_within_the_text(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let payload = Payload::binary(bytes.clone());
        if let Err(error) = payload.object() {
            prop_assert!(error.line >= 1 && error.column >= 1);
            prop_assert!(error.line + error.column <= bytes.len() + 2);
        }
        let whole = payload.whole();
        prop_assert_eq!(whole.expose(), bytes);
    }
}
