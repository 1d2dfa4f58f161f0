//! What `ListSecrets` shows: the world as it was some time ago. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::refusal::Refusal;
use super::secret::Secret;
use super::shape;

/// How far back the list can look: twice as far as AWS says that it may lag.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// One secret as it was at some time.
struct Shown {
    entry: Value,
    name: String,
    description: String,
    tags: Vec<(String, String)>,
    deleted: bool,
}

/// The states of one secret, each with the time from which it holds; none = it is gone.
type History = Vec<(SystemTime, Option<Arc<Shown>>)>;

#[derive(Default)]
pub struct Listing {
    /// By the number of the secret, so that the order is that of creation and does not change.
    histories: BTreeMap<u64, History>,
}

/// Which secrets are asked for.
#[derive(Debug)]
pub struct Filter {
    key: Key,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Name,
    Description,
    Tag,
    ValueOfTag,
}

/// Which part of the list is asked for.
pub struct Page<'a> {
    pub filters: &'a [Filter],
    pub include_deleted: bool,
    pub descending: bool,
    pub size: usize,
    /// The number of the last secret of the page before.
    pub after: Option<u64>,
}

impl Listing {
    /// Notes how a secret is from now on; none = it is gone.
    pub fn record(&mut self, number: u64, secret: Option<&Secret>, now: SystemTime) {
        let shown = secret.map(|secret| {
            Arc::new(Shown {
                entry: shape::entry(secret),
                name: secret.name.clone(),
                description: secret.description.clone().unwrap_or_default(),
                tags: secret.tags.clone(),
                deleted: secret.deletion.is_some(),
            })
        });
        let history = self.histories.entry(number).or_default();
        history.push((now, shown));
        let forgotten = now.checked_sub(REMEMBERED).unwrap_or(SystemTime::UNIX_EPOCH);
        // The last state before that time is what a look that far back sees.
        let superseded = history.iter().skip(1).take_while(|(from, _)| *from <= forgotten).count();
        history.drain(..superseded);
    }

    /// One page of the world as it was at `then`, and the number to go on after, if there is more.
    pub fn page(&self, page: &Page, then: SystemTime) -> (Vec<Value>, Option<u64>) {
        let (mut entries, mut last) = (Vec::new(), None);
        let matching = self.after(page).filter_map(|(number, history)| {
            let (_, shown) = history.iter().rev().find(|(from, _)| *from <= then)?;
            let shown = shown.as_deref()?;
            let wanted =
                (page.include_deleted || !shown.deleted) && page.filters.iter().all(|filter| filter.matches(shown));
            wanted.then_some((*number, shown))
        });
        for (number, shown) in matching {
            if entries.len() == page.size {
                return (entries, last);
            }
            entries.push(shown.entry.clone());
            last = Some(number);
        }
        (entries, None)
    }

    fn after(&self, page: &Page) -> Box<dyn Iterator<Item = (&u64, &History)> + '_> {
        match (page.descending, page.after) {
            (false, None) => Box::new(self.histories.iter()),
            (false, Some(after)) => Box::new(self.histories.range(after + 1..)),
            (true, None) => Box::new(self.histories.iter().rev()),
            (true, Some(after)) => Box::new(self.histories.range(..after).rev()),
        }
    }
}

impl Filter {
    /// Reads `Filters`.
    pub fn parse(value: &Value) -> Result<Vec<Self>, Refusal> {
        let filters = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if filters.len() > 10 {
            return Err(Refusal::constraint("Filters", "have length less than or equal to 10"));
        }
        filters.iter().map(Self::parse_one).collect()
    }

    fn parse_one(filter: &Value) -> Result<Self, Refusal> {
        let key = match filter["Key"].as_str() {
            Some("name") => Key::Name,
            Some("description") => Key::Description,
            Some("tag-key") => Key::Tag,
            Some("tag-value") => Key::ValueOfTag,
            Some(other @ ("primary-region" | "owning-service" | "all")) => {
                return Err(Refusal::not_modelled(&format!("the filter {other}")));
            }
            Some(_) => return Err(Refusal::constraint("Filters", "satisfy enum value set")),
            None => return Err(Refusal::invalid_parameter("Invalid filter key")),
        };
        let values: Vec<String> = filter["Values"]
            .as_array()
            .map(|values| values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        if values.is_empty() || values.len() > 10 || values.iter().any(|value| value.len() > 512) {
            return Err(Refusal::constraint("Filters", "have 1 to 10 values of 512 characters at most"));
        }
        Ok(Self { key, values })
    }

    fn matches(&self, shown: &Shown) -> bool {
        let begins = |prefix: &str| match self.key {
            Key::Name => shown.name.starts_with(prefix),
            Key::Description => shown.description.to_lowercase().starts_with(&prefix.to_lowercase()),
            Key::Tag => shown.tags.iter().any(|(key, _)| key.starts_with(prefix)),
            Key::ValueOfTag => shown.tags.iter().any(|(_, value)| value.starts_with(prefix)),
        };
        self.values.iter().any(|value| match value.strip_prefix('!') {
            Some(value) => !begins(value),
            None => begins(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        START + Duration::from_secs(seconds)
    }

    fn secret(name: &str) -> Secret {
        let mut secret = Secret::new(name, "arn", START);
        secret.tags = vec![("team".to_owned(), name.to_uppercase())];
        secret.description = Some(format!("About {name}"));
        secret
    }

    fn listing(names: &[&str]) -> Listing {
        let mut listing = Listing::default();
        for (number, name) in names.iter().enumerate() {
            listing.record(number as u64, Some(&secret(name)), START);
        }
        listing
    }

    fn names(entries: &[Value]) -> Vec<&str> {
        entries.iter().filter_map(|entry| entry["Name"].as_str()).collect()
    }

    fn page(filters: &[Filter]) -> Page<'_> {
        Page { filters, include_deleted: false, descending: false, size: 100, after: None }
    }

    #[test]
    fn filters_are_prefixes_that_can_be_negated() {
        let listing = listing(&["app/a", "App/b", "app/c", "other"]);
        let cases = [
            (json!([]), vec!["app/a", "App/b", "app/c", "other"]),
            (json!([{"Key": "name", "Values": ["app/"]}]), vec!["app/a", "app/c"]),
            (json!([{"Key": "name", "Values": ["!app/"]}]), vec!["App/b", "other"]),
            (json!([{"Key": "name", "Values": ["App", "oth"]}]), vec!["App/b", "other"]),
            (json!([{"Key": "name", "Values": ["app/"]}, {"Key": "name", "Values": ["!app/c"]}]), vec!["app/a"]),
            (json!([{"Key": "description", "Values": ["about app"]}]), vec!["app/a", "App/b", "app/c"]),
            (json!([{"Key": "tag-key", "Values": ["te"]}]), vec!["app/a", "App/b", "app/c", "other"]),
            (json!([{"Key": "tag-value", "Values": ["OTHER"]}]), vec!["other"]),
        ];
        for (filters, expected) in cases {
            let parsed = Filter::parse(&filters).unwrap();
            assert_eq!(names(&listing.page(&page(&parsed), START).0), expected, "{filters}");
        }
        let eleven = json!(vec![json!({"Key": "name", "Values": ["a"]}); 11]);
        for refused in [eleven, json!([{"Key": "size", "Values": ["a"]}]), json!([{"Key": "name", "Values": []}])] {
            assert_eq!(Filter::parse(&refused).unwrap_err().code, "ValidationException", "{refused}");
        }
        let all = json!([{"Key": "all", "Values": ["a"]}]);
        assert_eq!(Filter::parse(&all).unwrap_err().code, "NotModelled");
    }

    #[test]
    fn pages_follow_each_other_without_gap_while_secrets_come_and_go() {
        let mut listing = listing(&["a", "b", "c", "d", "e"]);
        let (first, after) = listing.page(&Page { size: 2, ..page(&[]) }, START);
        assert_eq!((names(&first), after), (vec!["a", "b"], Some(1)));
        listing.record(0, None, START);
        listing.record(9, Some(&secret("new")), START);
        let (second, after) = listing.page(&Page { size: 2, after, ..page(&[]) }, START);
        assert_eq!((names(&second), after), (vec!["c", "d"], Some(3)));
        let (third, after) = listing.page(&Page { size: 2, after, ..page(&[]) }, START);
        assert_eq!((names(&third), after), (vec!["e", "new"], None), "a full last page has no token");
        let (back, after) = listing.page(&Page { size: 2, descending: true, ..page(&[]) }, START);
        assert_eq!((names(&back), after), (vec!["new", "e"], Some(4)));
        let (back, _) = listing.page(&Page { size: 2, descending: true, after, ..page(&[]) }, START);
        assert_eq!(names(&back), ["d", "c"]);
    }

    #[test]
    fn the_list_shows_the_world_as_it_was() {
        let mut listing = Listing::default();
        let mut app = secret("app");
        listing.record(1, Some(&app), at(10));
        app.description = Some("later".to_owned());
        listing.record(1, Some(&app), at(20));
        listing.record(1, None, at(30));
        let seen = |then| -> Option<String> {
            let (entries, _) = listing.page(&page(&[]), at(then));
            entries.first().map(|entry| entry["Description"].as_str().unwrap().to_owned())
        };
        assert_eq!(seen(9), None);
        assert_eq!(seen(10).as_deref(), Some("About app"));
        assert_eq!(seen(29).as_deref(), Some("later"));
        assert_eq!(seen(30), None);
    }

    #[test]
    fn ten_minutes_are_remembered() {
        let mut listing = Listing::default();
        for second in 0..2000 {
            listing.record(1, Some(&secret("app")), at(second));
        }
        let history = &listing.histories[&1];
        assert_eq!((history[0].0, history.len()), (at(1999 - 600), 601));
        assert_eq!(listing.page(&page(&[]), at(1999 - 600)).0.len(), 1);
    }
}
