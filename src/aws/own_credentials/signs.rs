//! What can be told of a part of the credential chain by its text alone. No answer here holds a value.

/// The first sign that no credential has: those of AWS are of letters, digits and a few signs of ASCII.
#[must_use]
pub fn foreign_sign(value: &str) -> Option<&'static str> {
    value.chars().find_map(|sign| match sign {
        '\n' | '\r' => Some("a line end"),
        '\t' => Some("a tab"),
        ' ' => Some("a space"),
        '"' | '\'' => Some("a quotation mark"),
        sign if sign.is_ascii_graphic() => None,
        sign if sign.is_control() => Some("a control character"),
        _ => Some("a sign outside ASCII"),
    })
}

/// What is wrong with the ARN of a role.
#[must_use]
pub fn role_fault(arn: &str) -> Option<String> {
    if arn.is_empty() {
        return Some("is empty".to_owned());
    }
    if let Some(sign) = foreign_sign(arn) {
        return Some(format!("holds {sign}"));
    }
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let fits = matches!(parts[..], ["arn", _, "iam", "", account, role]
        if account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit()) && role.starts_with("role/"));
    (!fits).then(|| format!("is {arn:?}, which is not the ARN of a role (arn:aws:iam::123456789012:role/name)"))
}

/// What is wrong with the name of a region.
#[must_use]
pub fn region_fault(region: &str) -> Option<String> {
    if let Some(sign) = foreign_sign(region) {
        return Some(format!("holds {sign}"));
    }
    let small = |part: &str| !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_lowercase());
    let parts: Vec<&str> = region.split('-').collect();
    let fits = parts.split_last().is_some_and(|(number, words)| {
        words.len() >= 2
            && words.iter().all(|word| small(word))
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    (!fits).then(|| format!("is {region:?}, which is no region (such as eu-west-1)"))
}

/// What is wrong with the URL of an endpoint.
#[must_use]
pub fn url_fault(url: &str) -> Option<String> {
    if let Some(sign) = foreign_sign(url) {
        return Some(format!("holds {sign}"));
    }
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let fits = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']));
    (!fits).then(|| format!("is {url:?}, which is no URL (https://host)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_takes_passes_and_what_it_cannot_take_is_told() {
        for role in ["arn:aws:iam::123456789012:role/a", "arn:aws-cn:iam::123456789012:role/path/a"] {
            assert_eq!(role_fault(role), None);
        }
        for role in
            ["", "a", "arn:aws:iam::1:role/a", "arn:aws:iam::123456789012:user/a", "arn:aws:iam::123456789012:role/a\n"]
        {
            assert!(role_fault(role).is_some(), "{role:?}");
        }
        for region in ["eu-west-1", "us-gov-west-1", "us-iso-east-1", "ap-southeast-5"] {
            assert_eq!(region_fault(region), None);
        }
        for region in ["", "Ireland", "eu-west-1a", "eu-west-1 ", "eu_west_1", "eu-west", "eu--1"] {
            assert!(region_fault(region).is_some(), "{region:?}");
        }
        for url in ["http://localhost:4566", "https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com"] {
            assert_eq!(url_fault(url), None);
        }
        for url in ["", "localhost", "ftp://a", "https://", "http:///a", "http://a\n"] {
            assert!(url_fault(url).is_some(), "{url:?}");
        }
    }
}
