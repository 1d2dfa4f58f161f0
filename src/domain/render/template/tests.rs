use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::domain::render::key::TargetKey;
use crate::domain::render::template::error::{MAX_OUTPUT_BYTES, TemplateError, TemplateFault, TemplateSyntaxError};
use crate::domain::render::template::{ENGINE, Template};
use crate::domain::value::Value as Secret;

fn key(text: &str) -> TargetKey {
    TargetKey::try_from(text).unwrap()
}

fn parse(source: &str) -> Result<Template, TemplateSyntaxError> {
    Template::parse(&BTreeMap::from([("OUT".to_owned(), source.to_owned())]))
}

fn keys<'a>(values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> BTreeMap<TargetKey, Secret> {
    values.into_iter().map(|(name, value)| (key(name), Secret::from(value))).collect()
}

fn mapped() -> BTreeMap<TargetKey, Secret> {
    keys([
        ("USER", b"ann".as_slice()),
        ("PASSWORD", b"p@ss w\xc3\xb6rd/\"1\"<&>"),
        ("EMPTY", b""),
        ("tls.crt", b"-----BEGIN-----\nabc\n"),
        ("CODED", b"aGVsbG8="),
        ("BINARY_CODED", b"/w=="),
        ("raw-bytes", b"\xff\x00"),
        ("bindery", b"a key of that name"),
    ])
}

fn render(source: &str) -> Result<String, TemplateError> {
    let template = parse(source).unwrap_or_else(|error| panic!("{error}"));
    template
        .render(&mapped())
        .map(|mut out| String::from_utf8(out.remove(&key("OUT")).unwrap().expose().to_vec()).unwrap())
}

#[test]
fn templates_give_text() {
    let cases = [
        ("plain\n\n", "plain\n\n"),
        ("{{ USER }}", "ann"),
        ("<{{ USER }}>\n{{ USER }}\n", "<ann>\nann\n"),
        (
            "{{ bindery.keys.USER }}{{ bindery.keys['USER'] }}{{ bindery.keys[\"tls.crt\"] }}",
            "annann-----BEGIN-----\nabc\n",
        ),
        ("{{ bindery.keys.bindery }}", "a key of that name"),
        ("{{ USER | upper ~ ':' ~ USER | length }}", "ANN:3"),
        ("{{ EMPTY }}.", "."),
        ("{{ EMPTY | default('none') }}.{{ MISSING | default('none') }}", ".none"),
        ("{% if EMPTY %}a{% else %}b{% endif %}{% if MISSING is defined %}a{% else %}b{% endif %}", "bb"),
        ("{% for line in bindery.keys['tls.crt'] | lines %}[{{ line }}]{% endfor %}", "[-----BEGIN-----][abc]"),
        ("{% for k, v in bindery.keys | items if k == 'USER' %}{{ k }}={{ v }}{% endfor %}", "USER=ann"),
        ("{% set x = USER | upper %}{% set y %}<{{ x }}>{% endset %}{{ y }}", "<ANN>"),
        ("{{ USER[0] }}{{ USER[1:] }}{{ USER[-1] }}", "annn"),
        ("a {{- USER -}} b", "aannb"),
        ("{# nothing #}{{ '{{ }} {% %}' }}", "{{ }} {% %}"),
        ("{{ CODED | b64decode }}", "hello"),
        ("{{ CODED | b64decode | b64encode }}", "aGVsbG8="),
        ("{{ bindery.keys['raw-bytes'] | b64encode }}", "/wA="),
        ("{{ 42 | b64encode }}", "NDI="),
        ("{{ PASSWORD | urlencode }}", "p%40ss%20w%C3%B6rd%2F%221%22%3C%26%3E"),
        ("{{ 'AZaz09-._~' | urlencode }}", "AZaz09-._~"),
        ("{{ PASSWORD | tojson }}", "\"p@ss wörd/\\\"1\\\"<&>\""),
        (
            "{{ \"\\n\\t\\\\\" | tojson }}{{ 1 | tojson }}{{ true | tojson }}{{ none | tojson }}",
            "\"\\n\\t\\\\\"1truenull",
        ),
        ("{{ 'a,b' | split(',') | tojson }}", "[\"a\",\"b\"]"),
        ("{{ 'b,a' | split(',') | sort | join('+') }}{{ 'a,b' | split(',') | first }}", "a+ba"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ USER | replace('n', 'm') }}{{ ' x ' | trim }}", "ammx"),
        ("{\"u\":{{ USER | tojson }}}", "{\"u\":\"ann\"}"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn json_of_all_keys() {
    let template = parse("{{ bindery.keys | tojson }}").unwrap();
    let out = template.render(&keys([("b", b"1".as_slice()), ("a", b"\x01\"")])).unwrap();
    assert_eq!(out[&key("OUT")].expose(), br#"{"a":"\u0001\"","b":"1"}"#);
}

#[test]
fn failures_name_key_line_and_what_to_do() {
    let undefined = |missing: &[&str]| TemplateFault::Undefined {
        missing: missing.iter().map(|&m| m.to_owned()).collect(),
        alike: None,
    };
    let binary = || TemplateFault::Binary { name: Some(key("raw-bytes")) };
    let cases = [
        ("{{ MISSING }}", Some(1), undefined(&["MISSING"])),
        ("\n\n{{ USER }}{{ MISSING | upper }}{{ OTHER }}", Some(3), undefined(&["MISSING", "OTHER"])),
        ("{{ MISSING | b64encode }}", Some(1), undefined(&["MISSING"])),
        ("{{ MISSING | tojson }}", Some(1), undefined(&["MISSING"])),
        ("{{ MISSING | urlencode }}", Some(1), undefined(&["MISSING"])),
        ("{{ MISSING ~ 'x' }}", Some(1), undefined(&["MISSING"])),
        ("{% if MISSING %}{% endif %}", Some(1), undefined(&["MISSING"])),
        ("{% for x in MISSING %}{% endfor %}", Some(1), undefined(&["MISSING"])),
        ("{{ bindery.keys['no.such'] }}", Some(1), undefined(&["no.such"])),
        ("{{ bindery.keys[PASSWORD] }}", Some(1), undefined(&[])),
        ("{{ USER.nope }}", Some(1), undefined(&[])),
        ("{{ bindery.keys['raw-bytes'] }}", None, binary()),
        ("{{ bindery.keys['raw-bytes'] ~ 'x' }}", None, binary()),
        ("{{ bindery.keys['raw-bytes'] | upper }}", None, binary()),
        ("{{ bindery.keys['raw-bytes'] | tojson }}", Some(1), binary()),
        ("{{ bindery.keys['raw-bytes'] | urlencode }}", Some(1), binary()),
        ("{{ bindery.keys['raw-bytes'] | b64decode }}", Some(1), binary()),
        ("{{ bindery.keys | tojson }}", Some(1), binary()),
        ("{{ bindery.keys }}", None, binary()),
        ("{{ BINARY_CODED | b64decode }}", Some(1), TemplateFault::DecodedBinary),
        ("{{ USER | b64decode | b64decode }}", Some(1), TemplateFault::NotBase64),
        ("{{ bindery.keys | b64encode }}", Some(1), TemplateFault::NotText),
        ("{{ USER | dotenv }}", Some(1), TemplateFault::DotenvOfOther),
        ("{{ bindery.keys | dotenv }}", Some(1), TemplateFault::DotenvName { name: "raw-bytes".to_owned() }),
    ];
    for (source, line, fault) in cases {
        let error = render(source).expect_err(source);
        assert_eq!((&error.fault, error.line), (&fault, line), "{source}: {error}");
        assert!(error.to_string().starts_with("the template OUT failed"), "{error}");
    }
    for source in [
        "{{ USER | upper(1) }}",
        "{{ USER | replace }}",
        "{% for a, b in USER %}{% endfor %}",
        "{{ 1 | length }}",
        "{{ 1 in 2 }}",
    ] {
        let error = render(source).expect_err(source);
        assert!(matches!(error.fault, TemplateFault::Operation(_)), "{source}: {error}");
    }
}

#[test]
fn syntax_errors_are_found_before_any_value_is_read() {
    let cases = [
        ("{% if USER %}", 1),
        ("a\n{% endif %}", 2),
        ("a\nb\n{{ USER | nope }}", 3),
        ("{{ (((USER }}", 1),
        ("{% for x in USER %}{% else %}{% elif USER %}{% endfor %}", 1),
    ];
    for (source, expected) in cases {
        match parse(source) {
            Err(TemplateSyntaxError::Syntax { key, line, .. }) => {
                assert_eq!((key.as_str(), line), ("OUT", expected), "{source}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
    let bad_key = BTreeMap::from([("a b".to_owned(), String::new())]);
    assert!(matches!(Template::parse(&bad_key), Err(TemplateSyntaxError::Key { .. })));
    assert!(matches!(parse(&"x".repeat(65_537)), Err(TemplateSyntaxError::TooLong { .. })));
    assert!(parse(&"x".repeat(65_536)).is_ok());
}

#[test]
fn what_a_template_needs_is_known() {
    let sources = [("a", "{{ X }}{{ bindery.keys['y.z'] }}"), ("b", "{{ X }}{{ W }}")];
    let sources = sources.iter().map(|(key, source)| ((*key).to_owned(), (*source).to_owned())).collect();
    let template = Template::parse(&sources).unwrap();
    assert_eq!(template.needs().into_iter().collect::<Vec<_>>(), ["W", "X", "y.z"]);
    assert_eq!(template.keys().map(TargetKey::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(format!("{template:?}"), "{\"a\", \"b\"}");
}

/// Values of all the kinds that quoting goes wrong with, read back by the shell.
#[test]
fn shells_read_back_every_value_of_a_dotenv_file() {
    let values = [
        "plain",
        "",
        "with space",
        "$HOME ${X} `id` $(id)",
        "say \"x\"",
        "it's",
        "back\\slash",
        "two\\\\slashes",
        "end\\",
        "multi\nline\n\n",
        "# no comment",
        "both ' and \"",
        "'$x'",
        "' `id`",
        "\\n",
        " ends ",
        "a=b",
        "é",
        "!bang",
        "'\\",
        "\t",
        "%s {} [] ~ * ? ; & | < >",
    ];
    let names: Vec<String> = (0..values.len()).map(|n| format!("V{n:02}")).collect();
    let map = keys(names.iter().zip(values).map(|(name, value)| (name.as_str(), value.as_bytes())));
    let out = parse("{{ bindery.keys | dotenv }}").unwrap().render(&map).unwrap();
    let file = std::str::from_utf8(out[&key("OUT")].expose()).unwrap();
    let script = format!("printf '%s\\0' \"${}\"", names.join("\" \"$"));
    let output = std::process::Command::new("sh").arg("-c").arg(format!("{file}{script}")).output().unwrap();
    let read: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
    for (index, value) in values.iter().enumerate() {
        assert_eq!(read[index], value.as_bytes(), "{value:?} in {file}");
    }
    assert!(file.starts_with("V00='plain'\nV01=''\n"), "{file}");
}

#[test]
fn a_dotenv_file_refuses_what_it_cannot_carry() {
    let template = parse("{{ bindery.keys | dotenv }}").unwrap();
    for (name, value, fault) in [
        ("1A", b"x".as_slice(), TemplateFault::DotenvName { name: "1A".to_owned() }),
        ("A", b"x\0", TemplateFault::DotenvNul { name: "A".to_owned() }),
        ("A", b"\xff", TemplateFault::Binary { name: Some(key("A")) }),
    ] {
        assert_eq!(template.render(&keys([(name, value)])).unwrap_err().fault, fault);
    }
}

#[test]
fn output_is_bounded_over_all_templates() {
    let half = "x".repeat(MAX_OUTPUT_BYTES / 2);
    let map = keys([("HALF", half.as_bytes())]);
    let sources = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), "{{ HALF }}".to_owned())).collect();
    assert!(Template::parse(&sources(&["a", "b"])).unwrap().render(&map).is_ok());
    let error = Template::parse(&sources(&["a", "b", "c"])).unwrap().render(&map).unwrap_err();
    assert_eq!((error.key.as_str(), error.fault), ("c", TemplateFault::TooLarge));
}

/// A Secret of the greatest size can be quoted as JSON, encoded and wrapped in one go.
#[test]
fn the_fuel_is_enough_for_the_largest_secret() {
    let large = "x".repeat(MAX_OUTPUT_BYTES * 7 / 10);
    let map = keys([("A", large.as_bytes())]);
    assert!(parse("{{ A | tojson | b64encode }}").unwrap().render(&map).is_ok());
}

/// Programs that would take hours or all memory, or overflow the stack.
#[test]
fn hostile_templates_end_quickly() {
    let large = "x".repeat(65_536);
    let map = keys([("X", large.as_bytes())]);
    let cycle = "{% for a in X %}".repeat(20) + &"{% endfor %}".repeat(20);
    let doubling = "{% set X = X ~ X %}".repeat(100);
    let nested = "{% if X %}".repeat(100) + &"{% endif %}".repeat(100);
    let sources = [
        cycle,
        doubling + "{{ X }}",
        nested,
        "{% for a in X %}{% set y = a ~ X %}{{ y ~ y }}{% endfor %}".to_owned(),
        "{{ X | replace('', X) }}".to_owned(),
        "{{ X | replace('x', X) | length }}".to_owned(),
        "{{ X | split('') | join(X) }}".to_owned(),
        "{{ X | split('x') | join(X) | length }}".to_owned(),
        "{{ 'a\n' | replace('a', X) | indent(999999999) }}".to_owned(),
        "{{ X | replace('x', '\n') | indent(999999999) | length }}".to_owned(),
        format!("{{{{ X{} | length }}}}", " | urlencode | replace('x', '%')".repeat(20)),
        format!("{{{{ X{} }}}}", " | e".repeat(2000)),
        format!("{{{{ X{} }}}}", " | upper".repeat(99)),
        format!("{{{{ X{} | length }}}}", " ~ X".repeat(98)),
        format!("{{{{ {} X }}}}", "not ".repeat(199)),
        format!("{{{{ {} X }}}}", "X if X else ".repeat(49)),
        format!("{{{{ X{} }}}}", " is defined".repeat(99)),
        format!("{{{{ X{} }}}}", ".a".repeat(99)),
        format!("{{{{ X{} }}}}", "[0]".repeat(66)),
        format!("{{{{ {}X{} }}}}", "(".repeat(99), ")".repeat(99)),
        format!("{{{{ X{}{} }}}}", "[X".repeat(66), "]".repeat(66)),
        format!("{{{{ X{}{} }}}}", " | default(X".repeat(39), ")".repeat(39)),
        format!("{{% if X == 'a' %}}{}{{% endif %}}", format!("{{% elif {} X %}}", "not ".repeat(78)).repeat(198)),
        format!(
            "{}{}",
            "{% if X %}".repeat(99),
            format!("{{{{ {} X }}}}", "not ".repeat(199)) + &"{% endif %}".repeat(99)
        ),
        "{{ bindery.keys ~ bindery.keys }}".repeat(1900),
        "{{ X | sort | join | length }}".repeat(2000),
        "{{ bindery.keys | tojson | length }}".repeat(1700),
        "{{ bindery.keys | dotenv | length }}".repeat(1700),
    ];
    for source in sources {
        let started = Instant::now();
        let outcome = parse(&source).map(|template| template.render(&map).map(|_| ()));
        let elapsed = started.elapsed();
        let start: String = source.chars().take(60).collect();
        assert!(elapsed < Duration::from_secs(120), "{start} took {elapsed:?}: {outcome:?}");
    }
}

/// Everything that a new release of the engine adds is refused by the language check; this test shows that there is news.
#[test]
fn the_engine_has_no_functions() {
    let shown = format!("{:?}", *ENGINE);
    assert!(shown.starts_with("Environment { globals: {},"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any template text gives text or an error, in bounded time, and no error repeats a value.
    #[test]
    fn any_template_renders_or_fails(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("{{ "), Just(" }}"), Just("{% "), Just(" %}"), Just("{#"), Just("#}"), Just("A"), Just("B"), Just("if "),
                Just("for x in "), Just("endfor"), Just("endif"), Just("set y = "), Just("else"), Just(" | "), Just("upper"),
                Just("b64encode"), Just("b64decode"), Just("tojson"), Just("dotenv"), Just("urlencode"), Just("join"), Just("("),
                Just(")"), Just("["), Just("]"), Just("."), Just(","), Just(":"), Just("~"), Just("=="), Just("-"), Just("1"),
                Just("'s'"), Just("bindery.keys"), Just(" is "), Just("defined"), Just(" not "), Just(" in "), Just("items"),
                Just("\n"), Just("é"), Just("x"), Just("{{ A | "), Just("{{ bindery.keys | "), Just("split"), Just("replace"),
                Just("default"), Just("indent"), Just("sort"), Just("first"), Just("length"), Just("startingwith"),
            ],
            0..14,
        ),
        value in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let source = parts.concat();
        if let Ok(template) = parse(&source) {
            let canary = b"c4n4ry".as_slice();
            let a: Vec<u8> = [canary, &value, canary].concat();
            let outcome = template.render(&keys([("A", a.as_slice()), ("B", b"c4n4ry")]));
            if let Err(error) = outcome {
                prop_assert!(!error.to_string().contains("c4n4ry") && !format!("{error:?}").contains("c4n4ry"), "{source}: {error}");
            }
        }
    }

    #[test]
    fn any_text_is_a_template_or_a_syntax_error(source in "(.|\\{\\{|\\}\\}|\\{%|%\\}){0,40}") {
        if let Err(error) = parse(&source) {
            prop_assert!(error.to_string().len() < 600, "{error}");
        }
    }

    #[test]
    fn urlencode_is_undone_by_a_percent_decoder(text in ".{0,30}") {
        let out = parse("{{ A | urlencode }}").unwrap().render(&keys([("A", text.as_bytes())])).unwrap();
        let encoded = std::str::from_utf8(out[&key("OUT")].expose()).unwrap().to_owned();
        prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        let mut decoded = Vec::new();
        let mut bytes = encoded.bytes();
        while let Some(byte) = bytes.next() {
            decoded.push(if byte == b'%' {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            } else {
                byte
            });
        }
        prop_assert_eq!(decoded, text.into_bytes());
    }

    #[test]
    fn tojson_is_read_back_by_a_json_parser(text in ".{0,30}|[\\x00-\\x7f]{0,30}") {
        let out = parse("{{ A | tojson }}").unwrap().render(&keys([("A", text.as_bytes())])).unwrap();
        prop_assert_eq!(serde_json::from_slice::<String>(out[&key("OUT")].expose()).unwrap(), text);
    }
}
