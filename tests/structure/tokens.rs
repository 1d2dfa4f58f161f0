//! Paths and calls in the tokens of macros and attributes, which `syn` leaves unparsed.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::model::{Call, Mention};

/// What stands in the tokens.
#[derive(Default)]
pub struct Found {
    pub mentions: Vec<Mention>,
    pub calls: Vec<Call>,
    /// Public types, with their lines.
    pub types: Vec<(String, usize)>,
    /// Where `.await` or `async` stands.
    pub waits: Vec<usize>,
}

/// Looks through the tokens at all depths.
pub fn scan(tokens: TokenStream) -> Found {
    let mut found = Found::default();
    scan_level(&tokens.into_iter().collect::<Vec<_>>(), &mut found);
    found
}

/// The paths in the texts of an attribute, as in `#[serde(with = "crate::text")]`.
pub fn paths_in_texts(tokens: TokenStream) -> Vec<Mention> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(paths_in_texts(group.stream())),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let path = text.trim_matches('"');
                if path.contains("::")
                    && let Ok(path) = syn::parse_str::<syn::Path>(path)
                {
                    let path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                    found.push(Mention { path, line: literal.span().start().line });
                }
            }
            _ => {}
        }
    }
    found
}

/// The text after `kind =` in `#[kube(kind = "SecretBinding")]`: the macro makes a type of this name.
pub fn kind_of_resource(tokens: TokenStream) -> Option<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    tokens.windows(3).find_map(|three| match three {
        [TokenTree::Ident(key), TokenTree::Punct(_), TokenTree::Literal(text)] if key == "kind" => {
            Some(text.to_string().trim_matches('"').to_owned())
        }
        _ => None,
    })
}

fn scan_level(tokens: &[TokenTree], found: &mut Found) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => scan_level(&group.stream().into_iter().collect::<Vec<_>>(), found),
            TokenTree::Ident(ident) => {
                let line = ident.span().start().line;
                if is_punct(tokens, at.wrapping_sub(1), '.') {
                    scan_member(tokens, at, found);
                } else if ident == "async" {
                    found.waits.push(line);
                } else if is_type_keyword(&ident.to_string()) {
                    scan_type(tokens, at, found);
                } else if let Some(path) = path_from(tokens, at) {
                    found.mentions.push(Mention { path, line });
                }
            }
            _ => {}
        }
    }
}

/// A method, or `.await`. The token before is a dot.
fn scan_member(tokens: &[TokenTree], at: usize, found: &mut Found) {
    let TokenTree::Ident(method) = &tokens[at] else { return };
    let line = method.span().start().line;
    if method == "await" {
        found.waits.push(line);
        return;
    }
    let generic = is_separator(tokens, at + 1);
    let open = if generic { after_generics(tokens, at + 3) } else { at + 1 };
    if let Some(TokenTree::Group(group)) = tokens.get(open)
        && group.delimiter() == Delimiter::Parenthesis
    {
        found.calls.push(Call { method: method.to_string(), arguments: count(group.stream()), generic, line });
    }
}

/// A type with `pub` before it.
fn scan_type(tokens: &[TokenTree], at: usize, found: &mut Found) {
    let public = match tokens.get(at.wrapping_sub(1)) {
        Some(TokenTree::Ident(word)) => word == "pub",
        Some(TokenTree::Group(_)) => matches!(tokens.get(at.wrapping_sub(2)), Some(TokenTree::Ident(w)) if w == "pub"),
        _ => false,
    };
    if let (true, Some(TokenTree::Ident(name))) = (public, tokens.get(at + 1)) {
        found.types.push((name.to_string(), name.span().start().line));
    }
}

/// The path of two or more segments that begins at this identifier.
fn path_from(tokens: &[TokenTree], at: usize) -> Option<Vec<String>> {
    let mut path = Vec::new();
    if at >= 2 && is_separator(tokens, at - 2) {
        let goes_on = match tokens.get(at.wrapping_sub(3)) {
            Some(TokenTree::Ident(_)) => true,
            Some(TokenTree::Punct(punct)) => punct.as_char() == '>',
            _ => false,
        };
        if goes_on {
            return None;
        }
        path.push(String::new());
    }
    let mut next = at;
    while let Some(TokenTree::Ident(ident)) = tokens.get(next) {
        path.push(ident.to_string());
        if !is_separator(tokens, next + 1) {
            break;
        }
        next += 3;
        if is_punct(tokens, next, '<') {
            next = after_generics(tokens, next);
            if !is_separator(tokens, next) {
                break;
            }
            next += 2;
        }
    }
    (path.len() > 1).then_some(path)
}

/// Where `<…>` that begins here has ended.
fn after_generics(tokens: &[TokenTree], open: usize) -> usize {
    let mut depth = 0_usize;
    for at in open..tokens.len() {
        if is_punct(tokens, at, '<') {
            depth += 1;
        } else if is_punct(tokens, at, '>') && !is_punct(tokens, at.wrapping_sub(1), '-') {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn is_type_keyword(word: &str) -> bool {
    matches!(word, "struct" | "enum" | "union" | "trait" | "type")
}

fn is_punct(tokens: &[TokenTree], at: usize, character: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// Whether `::` stands here.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

/// How many arguments stand between the parentheses.
fn count(arguments: TokenStream) -> usize {
    let tokens: Vec<_> = arguments.into_iter().collect();
    let commas = (0..tokens.len()).filter(|at| is_punct(&tokens, *at, ',')).count();
    let trailing = is_punct(&tokens, tokens.len().wrapping_sub(1), ',');
    if tokens.is_empty() { 0 } else { commas + usize::from(!trailing) }
}
