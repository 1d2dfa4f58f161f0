//! Which queue, by its URL.

use std::fmt;

/// The region in the URL of a queue: `https://sqs.<region>.amazonaws.com/<account>/<name>`, or one of the [other
/// endpoints of SQS][endpoints]. None where the host names no region, as `localhost`.
///
/// [endpoints]: https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
#[must_use]
pub fn region_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).split(':').next()?;
    if host == "queue.amazonaws.com" {
        return Some("us-east-1".to_owned());
    }
    let labels: Vec<&str> = host.split('.').collect();
    // `sqs.<region>` everywhere, VPC endpoints included; `<region>.queue` in URLs of old.
    let region = labels.windows(2).find_map(|pair| match *pair {
        ["sqs" | "sqs-fips", region] | [region, "queue"] if is_region(region) => Some(region),
        _ => None,
    });
    region.map(str::to_owned)
}

/// Words and a number, as in `eu-west-1` and `us-gov-east-1`.
pub(super) fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A queue by which people know it: its name and its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueName {
    pub(super) region: String,
    pub(super) name: String,
}

impl QueueName {
    pub(super) fn of(url: &str) -> Self {
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let region = region_of(url).unwrap_or_default();
        Self { region, name: name.chars().filter(char::is_ascii_graphic).take(80).collect() }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.region.is_empty() { Ok(()) } else { write!(f, " ({})", self.region) }
    }
}
