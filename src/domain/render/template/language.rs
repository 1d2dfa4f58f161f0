//! The part of the template language that bindings may use, checked before the engine sees a template.
//!
//! The engine's fuel counts instructions and bytes, but not everything: a chain of two thousand filters overflows
//! the stack while it compiles (which ends the whole program), and a dozen lists of lists print as gigabytes before
//! the first byte is charged. So a template is read here first, and only what is harmless at any size is accepted:
//! values, attributes, subscripts, filters, tests, comparisons, `~`, `and`/`or`/`not`/`in`/`if`, and the
//! statements `if`, `for` and `set`. Lists, maps, arithmetic, function calls and everything else are refused by
//! name. A side effect is that unknown filters and malformed templates are found when a binding is written, not
//! when it is rendered, and that the names a template needs are known.
//!
//! The reader need not agree with the engine on what a text *means*, only never accept what the engine would take
//! for something else. Hence some plain rules: no `raw` blocks, no `{{` or `{%` inside comments, no braces inside
//! tags.

use std::collections::BTreeSet;

use crate::domain::render::template::words::{FILTERS, TESTS, is_reserved, list};

/// The most tokens in one tag. The engine compiles an expression by recursion, at worst one level a token.
const MAX_TOKENS: usize = 200;

/// The most statement tags in one template: `elif` nests one level each.
const MAX_STATEMENTS: usize = 200;

/// A template that has been read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// The mapped keys that the template names, as variables or as members of `bindery.keys`.
    pub(super) keys: BTreeSet<String>,
}

/// What is not allowed, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Reads a template.
pub(super) fn check(source: &str) -> Result<Outline, Refusal> {
    let mut reader = TemplateReader { source, at: 0, statements: 0, named: BTreeSet::new(), assigned: BTreeSet::new() };
    reader.template()?;
    let TemplateReader { mut named, assigned, .. } = reader;
    named.retain(|name| !assigned.contains(name));
    Ok(Outline { keys: named })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// The inside of a string literal, as written.
    Text(&'a str),
    Number,
    Symbol(&'static str),
}

/// What an opening bracket began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Group,
    Arguments,
    Subscript,
}

/// An expression of which some tokens are read.
struct Expression<'t, 'a> {
    rest: &'t [Token<'a>],
    brackets: Vec<Bracket>,
    /// Whether the tokens so far end with a value.
    after_value: bool,
    /// Whether arguments may follow.
    takes_arguments: bool,
}

struct TemplateReader<'a> {
    source: &'a str,
    at: usize,
    statements: usize,
    named: BTreeSet<String>,
    assigned: BTreeSet<String>,
}

impl<'a> TemplateReader<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Refusal> {
        let line = self.source[..self.at].matches('\n').count() + 1;
        Err(Refusal { line, reason: reason.into() })
    }

    fn template(&mut self) -> Result<(), Refusal> {
        while let Some(brace) = self.rest().find('{') {
            self.at += brace;
            match self.rest().as_bytes().get(1) {
                Some(b'{') => {
                    let tokens = self.tag("}}")?;
                    self.expression(&tokens)?;
                }
                Some(b'%') => {
                    self.statements += 1;
                    if self.statements > MAX_STATEMENTS {
                        return self
                            .refuse(format!("there are more than {MAX_STATEMENTS} statements: split the template"));
                    }
                    let tokens = self.tag("%}")?;
                    self.statement(&tokens)?;
                }
                Some(b'#') => self.comment()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), Refusal> {
        let Some(length) = self.rest()[2..].find("#}") else {
            return self.refuse("a comment `{#` is not closed by `#}`");
        };
        let inside = &self.rest()[2..2 + length];
        if inside.contains("{{") || inside.contains("{%") {
            return self.refuse("a comment cannot contain `{{` or `{%`: remove the tag from it");
        }
        self.at += length + 4;
        Ok(())
    }

    /// Reads the tokens of a tag up to its closing braces.
    fn tag(&mut self, close: &str) -> Result<Vec<Token<'a>>, Refusal> {
        let start = self.at;
        self.at += 2;
        if self.rest().starts_with(['-', '+']) {
            self.at += 1;
        }
        let mut tokens = Vec::new();
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            self.at += space;
            let rest = self.rest();
            let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if unsigned.starts_with(close) {
                self.at += rest.len() - unsigned.len() + close.len();
                return Ok(tokens);
            }
            if rest.is_empty() {
                self.at = start;
                return self.refuse(format!("a tag is not closed by `{close}`"));
            }
            if tokens.len() == MAX_TOKENS {
                return self.refuse(format!("a tag has more than {MAX_TOKENS} words and signs: split it, `set` helps"));
            }
            tokens.push(self.token()?);
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Refusal> {
        const SYMBOLS: [&str; 16] =
            ["==", "!=", "<=", ">=", "<", ">", "=", "(", ")", "[", "]", ",", ".", ":", "|", "~"];
        let rest = self.rest();
        let word_length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let token = if word_length > 0 {
            let word = &rest[..word_length];
            if !word.starts_with(|c: char| c.is_ascii_digit()) {
                Token::Name(word)
            } else if word.len() <= 9 && word.bytes().all(|b| b.is_ascii_digit()) {
                Token::Number
            } else {
                return self.refuse(format!("`{word}` is neither a name nor a whole number below 10^9"));
            }
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Token::Symbol(symbol)
        } else if rest.starts_with('-') {
            Token::Symbol("-")
        } else if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            return self.string(quote).map(Token::Text);
        } else {
            let c = rest.chars().next().unwrap_or_default();
            return self.refuse(match c {
                '{' | '}' => {
                    "maps and braces are not part of the template language of bindings, and a tag ends with `}}`"
                        .to_owned()
                }
                '+' | '*' | '/' | '%' => format!("there is no arithmetic (`{c}`); `~` joins texts"),
                c => format!("`{}` cannot stand here", c.escape_debug()),
            });
        };
        self.at += match token {
            Token::Symbol(symbol) => symbol.len(),
            _ => word_length,
        };
        Ok(token)
    }

    fn string(&mut self, quote: char) -> Result<&'a str, Refusal> {
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += at + 1;
                return Ok(&rest[1..at]);
            }
            if c == '\\' && !matches!(chars.next(), Some((_, 'n' | 'r' | 't' | '\\' | '"' | '\''))) {
                return self.refuse("a string knows the escapes \\n \\r \\t \\\\ \\\" \\' and no others");
            }
        }
        self.refuse(format!("a string is not closed by `{quote}`"))
    }

    fn statement(&mut self, tokens: &[Token<'a>]) -> Result<(), Refusal> {
        use Token::{Name, Symbol};
        match tokens {
            [Name("if" | "elif"), condition @ ..] => self.expression(condition),
            [Name("else" | "endif" | "endfor" | "endset")] => Ok(()),
            [Name("for"), Name(item), Name("in"), rest @ ..] => {
                self.assign(item)?;
                self.loop_over(rest)
            }
            [Name("for"), Name(key), Symbol(","), Name(value), Name("in"), rest @ ..] => {
                self.assign(key)?;
                self.assign(value)?;
                self.loop_over(rest)
            }
            [Name("set"), Name(name)] => self.assign(name),
            [Name("set"), Name(name), Symbol("="), value @ ..] => {
                self.assign(name)?;
                self.expression(value)
            }
            [Name("for"), ..] => self.refuse("write `for NAME in VALUE` or `for KEY, VALUE in bindery.keys | items`"),
            [Name("set"), ..] => self.refuse("write `set NAME = VALUE`"),
            [Name("raw" | "endraw"), ..] => {
                self.refuse("there are no `raw` blocks: write braces as a string, such as {{ '{{' }}")
            }
            [Name(word @ ("else" | "endif" | "endfor" | "endset")), ..] => {
                self.refuse(format!("nothing can follow `{word}`"))
            }
            [Name(word), ..] => {
                self.refuse(format!("the statement `{word}` does not exist here: there are `if`, `for` and `set`"))
            }
            _ => self.refuse("a statement begins with `if`, `for` or `set`"),
        }
    }

    fn assign(&mut self, name: &str) -> Result<(), Refusal> {
        if is_reserved(name) {
            return self.refuse(format!("`{name}` cannot be assigned: choose another name"));
        }
        self.assigned.insert(name.to_owned());
        Ok(())
    }

    /// What follows `in`: an expression, possibly with the filter `if CONDITION`.
    fn loop_over(&mut self, tokens: &[Token<'a>]) -> Result<(), Refusal> {
        self.assigned.insert("loop".to_owned());
        self.expression(tokens)
    }

    fn expression(&mut self, tokens: &[Token<'a>]) -> Result<(), Refusal> {
        use Token::{Name, Number, Symbol, Text};
        let mut read = Expression { rest: tokens, brackets: Vec::new(), after_value: false, takes_arguments: false };
        while let [token, rest @ ..] = read.rest {
            read.rest = rest;
            let takes_arguments = std::mem::take(&mut read.takes_arguments);
            match *token {
                Name("and" | "or" | "in" | "if" | "else") | Symbol("~" | "==" | "!=" | "<" | ">" | "<=" | ">=")
                    if read.after_value =>
                {
                    read.after_value = false;
                }
                Name("not") if !read.after_value => {}
                Name("not") if matches!(rest.first(), Some(Name("in"))) => {}
                Name("is") if read.after_value => self.test(&mut read)?,
                Symbol("|") if read.after_value => self.filter(&mut read)?,
                Symbol(".") if read.after_value => {
                    let [Name(_), following @ ..] = rest else {
                        return self.refuse("a name follows `.`; other keys are written bindery.keys[\"tls.crt\"]");
                    };
                    read.rest = following;
                }
                Symbol("-") if !read.after_value && matches!(rest.first(), Some(Number)) => {}
                Symbol(symbol @ ("(" | ")" | "[" | "]" | ":" | ",")) => {
                    self.bracket(symbol, takes_arguments, &mut read)?;
                }
                Name(name) if !read.after_value => {
                    read.rest = self.variable(name, rest)?;
                    read.after_value = true;
                }
                Text(_) | Number if !read.after_value => read.after_value = true,
                other => {
                    let at = tokens.len() - rest.len() - 1;
                    let known = || dashed_name(tokens, at).or_else(|| dotted_name(tokens, at));
                    return self.refuse(known().unwrap_or_else(|| unexpected(other)));
                }
            }
        }
        if !read.brackets.is_empty() {
            return self.refuse("a bracket is not closed");
        }
        if !read.after_value {
            return self.refuse("a value is missing at the end of the tag");
        }
        Ok(())
    }

    /// Reads the test after `is`.
    fn test(&self, read: &mut Expression<'_, 'a>) -> Result<(), Refusal> {
        use Token::Name;
        let ([Name("not"), Name(test), following @ ..] | [Name(test), following @ ..]) = read.rest else {
            return self.refuse("a test follows `is`, such as `is defined`");
        };
        if !TESTS.contains(test) {
            return self.refuse(format!("the test `{test}` does not exist; there are {}", list(TESTS)));
        }
        (read.rest, read.takes_arguments) = (following, true);
        Ok(())
    }

    /// Reads the filter after `|`.
    fn filter(&self, read: &mut Expression<'_, 'a>) -> Result<(), Refusal> {
        let [Token::Name(filter), following @ ..] = read.rest else {
            return self.refuse("a filter follows `|`, such as `| b64encode`");
        };
        if !FILTERS.contains(filter) {
            return self.refuse(format!("the filter `{filter}` does not exist; there are {}", list(FILTERS)));
        }
        (read.rest, read.takes_arguments) = (following, true);
        Ok(())
    }

    /// Takes a bracket, or a sign that only brackets allow.
    fn bracket(
        &self,
        symbol: &'static str,
        takes_arguments: bool,
        read: &mut Expression<'_, 'a>,
    ) -> Result<(), Refusal> {
        use Token::Symbol;
        let next = read.rest.first();
        match symbol {
            "(" if takes_arguments => {
                read.brackets.push(Bracket::Arguments);
                read.after_value = matches!(next, Some(Symbol(")")));
            }
            "(" if !read.after_value => read.brackets.push(Bracket::Group),
            "(" => return self.refuse("functions and methods cannot be called; filters follow `|`"),
            "[" if read.after_value => {
                read.brackets.push(Bracket::Subscript);
                // The bounds of a slice may be left out.
                read.after_value = matches!(next, Some(Symbol(":")));
            }
            "[" => return self.refuse("lists are not part of the template language of bindings"),
            ":" if read.after_value && read.brackets.last() == Some(&Bracket::Subscript) => {
                read.after_value = matches!(next, Some(Symbol("]" | ":")));
            }
            "," if read.after_value && read.brackets.last() == Some(&Bracket::Arguments) => read.after_value = false,
            ")" | "]" if read.after_value => match (symbol, read.brackets.pop()) {
                (")", Some(Bracket::Group | Bracket::Arguments)) | ("]", Some(Bracket::Subscript)) => {}
                _ => return self.refuse(format!("`{symbol}` closes nothing")),
            },
            _ => return self.refuse(unexpected(Symbol(symbol))),
        }
        Ok(())
    }

    /// Records the name of a variable; reads on through `bindery.keys` and its member.
    fn variable<'t>(&mut self, name: &str, rest: &'t [Token<'a>]) -> Result<&'t [Token<'a>], Refusal> {
        use Token::{Name, Symbol, Text};
        if name != "bindery" {
            if !is_reserved(name) {
                self.named.insert(name.to_owned());
            }
            return Ok(rest);
        }
        let [Symbol("."), Name("keys"), rest @ ..] = rest else {
            return self.refuse("`bindery` has one member, `bindery.keys`");
        };
        match rest {
            [Symbol("."), Name(key), rest @ ..] | [Symbol("["), Text(key), Symbol("]"), rest @ ..] => {
                self.named.insert((*key).to_owned());
                Ok(rest)
            }
            _ => Ok(rest),
        }
    }
}

/// What to say of a `-` between words, which is more often meant as a part of a key than as arithmetic.
fn dashed_name(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let (before, after) = (tokens.get(..at)?, tokens.get(at..)?);
    let part = |token: &Token<'_>| match token {
        Token::Name(name) if !is_reserved(name) || *name == "bindery" => Some((*name).to_owned()),
        Token::Symbol(sign @ ("-" | ".")) => Some((*sign).to_owned()),
        _ => None,
    };
    let [Token::Symbol("-"), Token::Name(_), ..] = after else { return None };
    let mut parts: Vec<String> = before.iter().rev().map_while(part).collect();
    parts.reverse();
    parts.extend(after.iter().map_while(part));
    let joined = parts.concat();
    let name = joined.strip_prefix("bindery.keys.").unwrap_or(&joined);
    let is_name = !name.is_empty() && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.']);
    is_name.then(|| {
        format!(
            "there is no arithmetic (`-`); if `{name}` is the name of a key, write {{{{ bindery.keys['{name}'] }}}}"
        )
    })
}

/// What to say of a name with a dot before it, as the templates of Go and Helm have it.
fn dotted_name(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let [Token::Symbol("."), after @ ..] = tokens.get(at..)? else { return None };
    let name = after.iter().map_while(|token| match token {
        Token::Name(name) if !is_reserved(name) => Some(name),
        Token::Symbol(".") => Some(&""),
        _ => None,
    });
    let name = name.last().filter(|name| !name.is_empty())?;
    Some(format!("`.` cannot stand here; names have no dot before them: write {{{{ {name} }}}}"))
}

fn unexpected(token: Token<'_>) -> String {
    match token {
        Token::Name(name) => format!("`{name}` cannot stand here"),
        Token::Text(_) => "a string cannot stand here".to_owned(),
        Token::Number => "a number cannot stand here".to_owned(),
        Token::Symbol("=") => "`=` cannot stand here (`==` compares, arguments have no names)".to_owned(),
        Token::Symbol("-") => {
            "there is no arithmetic (`-`); a key with a dash is written bindery.keys['user-name']".to_owned()
        }
        Token::Symbol(symbol) => format!("`{symbol}` cannot stand here"),
    }
}

#[cfg(test)]
mod tests;
