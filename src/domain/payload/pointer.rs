//! JSON Pointers (RFC 6901).

/// The top-level key that a JSON key reaches into if it is a JSON Pointer: the first token of `/a~1b/c` is `a/b`.
/// Nothing if the key does not start with `/` or has a wrong escape. (A member literally named so goes first.)
#[must_use]
pub fn pointer_root(key: &str) -> Option<String> {
    unescape_token(key.strip_prefix('/')?.split('/').next()?)
}

/// The JSON Pointer of these reference tokens.
pub(super) fn pointer_to(tokens: &[String]) -> String {
    let escaped = tokens.iter().flat_map(|token| ["/".to_owned(), token.replace('~', "~0").replace('/', "~1")]);
    escaped.collect()
}

/// Undoes the escapes of a reference token (RFC 6901 §4).
pub(super) fn unescape_token(token: &str) -> Option<String> {
    let mut plain = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}
