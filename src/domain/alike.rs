//! Names that look alike: the usual cause where a name is not found.

/// The first of `names` that differs from `name` only by case, spaces, invisible signs, `-`, `_`, `.` or `/`.
pub(crate) fn alike<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = reduced(name);
    if wanted.is_empty() {
        return None;
    }
    names.into_iter().find(|other| *other != name && reduced(other) == wanted).map(str::to_owned)
}

fn reduced(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_by_case_space_or_punctuation_look_alike() {
        for other in
            ["database_url", "DATABASE-URL", " DATABASE_URL", "DATABASE_URL\u{200b}", "database.url", "databaseUrl"]
        {
            assert_eq!(alike("DATABASE_URL", ["REDIS_URL", other]).as_deref(), Some(other));
        }
        for other in ["DATABASE_URL", "DATABASE_URI", "DATABASE", ""] {
            assert_eq!(alike("DATABASE_URL", [other]), None, "{other}");
        }
        assert_eq!(alike("-", ["_", "."]), None);
    }
}
