//! The region and the name of a queue, from its URL.

use std::fmt;

/// The region in the URL of a queue: `https://sqs.<region>.amazonaws.com/<account>/<name>`, or one of the [other
/// endpoints of SQS][endpoints]. `None` where the host names no region, as `localhost`.
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
    // `sqs.<region>` in general and in VPC endpoints, `<region>.queue` in old URLs.
    let region = labels.windows(2).find_map(|pair| match *pair {
        ["sqs" | "sqs-fips", region] | [region, "queue"] if is_region(region) => Some(region),
        _ => None,
    });
    region.map(str::to_owned)
}

/// Whether the label is words and a number, as `eu-west-1` and `us-gov-east-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name and the region of a queue, for people.
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

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/bindery-events";

    #[test]
    fn the_region_of_a_queue_stands_in_its_url() {
        for (url, region) in [
            (URL, Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", Some("cn-north-1")),
            ("https://sqs.us-gov-east-1.amazonaws.com/123456789012/q", Some("us-gov-east-1")),
            ("https://sqs.us-iso-east-1.c2s.ic.gov/123456789012/q", Some("us-iso-east-1")),
            ("https://sqs-fips.us-east-2.amazonaws.com/123456789012/q", Some("us-east-2")),
            ("https://sqs.eu-west-1.api.aws/123456789012/q", Some("eu-west-1")),
            ("https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q", Some("eu-west-1")),
            ("https://eu-west-1.queue.amazonaws.com/123456789012/q", Some("eu-west-1")),
            ("https://queue.amazonaws.com/123456789012/q", Some("us-east-1")),
            ("http://sqs.eu-west-1.localhost.localstack.cloud:4566/000000000000/q", Some("eu-west-1")),
            ("http://user@sqs.eu-west-1.example.com:1/q", Some("eu-west-1")),
            ("http://localhost:4566/000000000000/sqs.eu-west-1.q", None),
            ("http://127.0.0.1:5000/123456789012/q", None),
            ("http://[::1]:5000/123456789012/q", None),
            ("https://sqs.amazonaws.com/123456789012/q", None),
            ("https://sqs.eu-west.amazonaws.com/123456789012/q", None),
            ("sqs.eu-west-1.amazonaws.com/123456789012/q", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(region_of(url).as_deref(), region, "{url}");
        }
    }
}
