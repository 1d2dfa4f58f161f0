use crate::domain::render::template::language::{Outline, check};

fn keys(source: &str) -> Vec<String> {
    let Outline { keys } = check(source).unwrap_or_else(|refusal| panic!("{source}: {refusal:?}"));
    keys.into_iter().collect()
}

#[test]
fn names_of_mapped_keys_are_found() {
    let cases: &[(&str, &[&str])] = &[
        ("no tags { at } all %} }} #}", &[]),
        ("{{ A }}{{B|upper}}{{- C -}}{{+ D +}}", &["A", "B", "C", "D"]),
        ("{{ A ~ ':' ~ B }}", &["A", "B"]),
        ("{{ bindery.keys['tls.crt'] ~ bindery.keys.A }}", &["A", "tls.crt"]),
        ("{{ bindery.keys | dotenv }}{{ bindery.keys[A] }}", &["A"]),
        (
            "{% if A is defined and not B %}{{ C }}{% elif D in 'x' %}{% else %}{{ E }}{% endif %}",
            &["A", "B", "C", "D", "E"],
        ),
        ("{% for k, v in bindery.keys | items if v != A %}{{ k }}={{ v }}{{ loop.index }}{% endfor %}", &["A"]),
        ("{% for line in A | lines %}{{ line }}{% endfor %}", &["A"]),
        ("{% set x = A | trim %}{% set y %}{{ x }}{% endset %}{{ y }}", &["A"]),
        ("{{ A[0] }}{{ A[1:] }}{{ A[:2] }}{{ A[-1] }}{{ A[1:2] }}{{ A[:] }}{{ A[::2] }}", &["A"]),
        ("{{ A | default('x') | replace('a', \"b\\n\") | join(', ') }}", &["A"]),
        ("{{ (A if B else (C)) | b64encode }}", &["A", "B", "C"]),
        ("{{ A is startingwith('x') or A is not endingwith('y') }}", &["A"]),
        ("{{ A not in B }}{{ not A }}{{ A == 1 }}{{ -1 < 2 }}", &["A", "B"]),
        ("{# a } comment { #}{{ A }}", &["A"]),
        ("{{ '}}' ~ \"{{\" ~ '{%' }}", &[]),
        ("{\"auth\":{{ A | tojson }}}}", &["A"]),
        ("{{ A.b }}", &["A"]),
        ("{{\n A\n}}", &["A"]),
        ("{{ true }}{{ none }}{{ loop }}", &[]),
    ];
    for (source, expected) in cases {
        assert_eq!(keys(source), *expected, "{source}");
    }
}

/// Templates, and what the refusal says.
const REFUSED: &[(&str, &str)] = &[
    ("{{", "not closed by `}}`"),
    ("{{ A", "not closed by `}}`"),
    ("{{ A %}", "arithmetic"),
    ("{% if A }}", "braces"),
    ("{{ A }", "braces are not part of the template language of bindings, and a tag ends with `}}`"),
    ("{{ 'x }}", "a string is not closed"),
    ("{{ \"x' }}", "a string is not closed"),
    ("{{ }}", "a value is missing"),
    ("{{ A | }}", "a filter follows"),
    ("{{ A | nope }}", "the filter `nope` does not exist; there are b64decode"),
    ("{{ A | safe }}", "`safe` does not exist"),
    ("{{ A | map('upper') }}", "`map` does not exist"),
    ("{{ A is nope }}", "the test `nope` does not exist; there are defined"),
    ("{{ [A, A] }}", "lists are not part"),
    ("{{ {'a': A} }}", "maps and braces"),
    ("{{ A, B }}", "`,` cannot stand here"),
    ("{{ (A, B) }}", "`,` cannot stand here"),
    ("{{ () }}", "cannot stand here"),
    ("{{ A + B }}", "there is no arithmetic"),
    ("{{ A * 1000 }}", "there is no arithmetic"),
    ("{{ 9 ** 9 }}", "there is no arithmetic"),
    ("{{ A - 1 }}", "there is no arithmetic"),
    ("{{ A % 2 }}", "there is no arithmetic"),
    ("{{ -A }}", "there is no arithmetic"),
    ("{{ user-name }}", "write {{ bindery.keys['user-name'] }}"),
    ("{{ a.user-name-2nd | b64encode }}", "is neither a name nor"),
    ("{{ a.user-name.crt | b64encode }}", "write {{ bindery.keys['a.user-name.crt'] }}"),
    ("{{ 'x' ~ bindery.keys.user-name }}", "write {{ bindery.keys['user-name'] }}"),
    ("{{ A = B }}", "`==` compares"),
    ("{{ A | join(d='x') }}", "arguments have no names"),
    ("{{ range(3) }}", "functions and methods cannot be called"),
    ("{{ debug() }}", "functions and methods cannot be called"),
    ("{{ A.upper() }}", "functions and methods cannot be called"),
    ("{{ loop(A) }}", "functions and methods cannot be called"),
    ("{{ A B }}", "`B` cannot stand here"),
    ("{{ A 'x' }}", "a string cannot stand here"),
    ("{{ A 1 }}", "a number cannot stand here"),
    ("{{ A.1 }}", "a name follows `.`"),
    ("{{ 1.5 }}", "a name follows `.`"),
    ("{{ .USER }}", "`.` cannot stand here; names have no dot before them: write {{ USER }}"),
    ("{{ .Data.USER }}", "names have no dot before them"),
    ("{{ 0x10 }}", "`0x10` is neither"),
    ("{{ 1e9 }}", "`1e9` is neither"),
    ("{{ 12345678901 }}", "neither"),
    ("{{ (A }}", "a bracket is not closed"),
    ("{{ A) }}", "`)` closes nothing"),
    ("{{ A[0) }}", "`)` closes nothing"),
    ("{{ A[] }}", "cannot stand here"),
    ("{{ A ; B }}", "`;` cannot stand here"),
    ("{{ Ä }}", "cannot stand here"),
    ("{{ A\u{a0}}}", "cannot stand here"),
    ("{{ A\u{c}}}", "cannot stand here"),
    ("{{ bindery }}", "one member, `bindery.keys`"),
    ("{{ bindery['keys'] }}", "one member, `bindery.keys`"),
    ("{{ '\\x41' }}", "escapes"),
    ("{% %}", "a statement begins with"),
    ("{% include 'x' %}", "the statement `include` does not exist"),
    ("{% extends 'x' %}", "the statement `extends` does not exist"),
    ("{% import 'x' as y %}", "the statement `import` does not exist"),
    ("{% macro m() %}{% endmacro %}", "the statement `macro` does not exist"),
    ("{% with a = 1 %}{% endwith %}", "the statement `with` does not exist"),
    ("{% filter upper %}{% endfilter %}", "the statement `filter` does not exist"),
    ("{% autoescape 'html' %}{% endautoescape %}", "the statement `autoescape` does not exist"),
    ("{% do A %}", "the statement `do` does not exist"),
    ("{% raw %}{{ x }}{% endraw %}", "there are no `raw` blocks"),
    ("{%- raw -%}{{ x }}{% endraw %}", "there are no `raw` blocks"),
    ("{% if %}", "a value is missing"),
    ("{% for x %}", "write `for NAME in VALUE`"),
    ("{% for x.y in A %}", "write `for NAME in VALUE`"),
    ("{% for a, b, c in A %}", "write `for NAME in VALUE`"),
    ("{% for x in A recursive %}", "`recursive` cannot stand here"),
    ("{% for loop in A %}", "`loop` cannot be assigned"),
    ("{% set bindery = A %}", "`bindery` cannot be assigned"),
    ("{% set a, b = A %}", "write `set NAME = VALUE`"),
    ("{% set a.b = A %}", "write `set NAME = VALUE`"),
    ("{% set x | upper %}{% endset %}", "write `set NAME = VALUE`"),
    ("{% else x %}", "nothing can follow `else`"),
    ("{#", "a comment `{#` is not closed"),
    ("{# {{ A }} #}", "a comment cannot contain"),
    ("{#}", "a comment `{#` is not closed"),
];

#[test]
fn everything_else_is_refused_by_name() {
    for &(source, reason) in REFUSED {
        let refusal = check(source).expect_err(source);
        assert!(refusal.reason.contains(reason), "{source}: {}", refusal.reason);
        assert_eq!(refusal.line, 1, "{source}");
        let later = check(&format!("a\n{{{{ B }}}}\n{source}")).expect_err(source);
        assert_eq!(later.line, 3, "{source}");
    }
}

#[test]
fn tags_and_statements_are_bounded() {
    assert!(check(&format!("{{{{ A{} }}}}", "~A".repeat(99))).is_ok());
    assert!(check(&format!("{{{{ A{} }}}}", "~A".repeat(100))).unwrap_err().reason.contains("200 words and signs"));
    assert!(check(&"{% set a = 1 %}".repeat(200)).is_ok());
    assert!(check(&"{% set a = 1 %}".repeat(201)).unwrap_err().reason.contains("200 statements"));
    assert!(check(&"{{ A }}".repeat(5000)).is_ok());
}
