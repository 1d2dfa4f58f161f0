//! All secrets of one account and region. Pure: the time is an argument, and chance is seeded.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::listing::Listing;
use super::refusal::Refusal;
use super::secret::{Content, Deletion, Secret};

const LONGEST_NAME: usize = 512;
const SUFFIX: usize = 6;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `CreateSecret` is given.
pub struct New<'a> {
    pub name: &'a str,
    pub token: &'a str,
    pub content: Option<Content>,
    pub description: Option<&'a str>,
    pub tags: Vec<(String, String)>,
}

pub struct Store {
    account: String,
    region: String,
    /// The secrets by number, which counts them in the order in which they were made.
    secrets: HashMap<u64, Secret>,
    names: HashMap<String, u64>,
    arns: HashMap<String, u64>,
    next: u64,
    listing: Listing,
    dice: Rng,
}

impl Store {
    pub fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            secrets: HashMap::new(),
            names: HashMap::new(),
            arns: HashMap::new(),
            next: 0,
            listing: Listing::default(),
            dice: Rng::with_seed(0),
        }
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// An id of the form of a UUID.
    pub fn uuid(&mut self) -> String {
        uuid(&mut self.dice)
    }

    /// `CreateSecret`; answers the id of the version, if there is one.
    pub fn create(&mut self, new: New, now: SystemTime) -> Result<(&Secret, Option<String>), Refusal> {
        check_name(new.name)?;
        match self.number(new.name, "CreateSecret", now) {
            Ok(number) => self.create_again(number, &new),
            Err(_) => self.create_first(new, now),
        }
    }

    fn create_first(&mut self, new: New, now: SystemTime) -> Result<(&Secret, Option<String>), Refusal> {
        let suffix: String = (0..SUFFIX).map(|_| self.dice.alphanumeric()).collect();
        let arn = format!("arn:aws:secretsmanager:{}:{}:secret:{}-{suffix}", self.region, self.account, new.name);
        let mut secret = Secret::new(new.name, &arn, now);
        secret.description = new.description.map(str::to_owned);
        secret.tags = new.tags;
        let version = new.content.is_some().then(|| new.token.to_owned());
        if let Some(content) = new.content {
            secret.put(new.token, content, None, now)?;
        }
        self.next += 1;
        let number = self.next;
        self.names.insert(new.name.to_owned(), number);
        self.arns.insert(arn, number);
        self.listing.record(number, Some(&secret), now);
        Ok((self.secrets.entry(number).or_insert(secret), version))
    }

    /// The same request once more is ignored; any other of that name is refused.
    fn create_again(&self, number: u64, new: &New) -> Result<(&Secret, Option<String>), Refusal> {
        let secret = &self.secrets[&number];
        if secret.deletion.is_some() {
            return Err(Refusal::invalid_request(
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ));
        }
        match secret.version(new.token) {
            Some(version) if version.content == new.content => Ok((secret, Some(version.id.clone()))),
            _ => {
                let name = new.name;
                Err(Refusal::exists(format!("The operation failed because the secret {name} already exists.")))
            }
        }
    }

    /// A secret, also one that waits for its deletion.
    pub fn secret(&mut self, id: &str, operation: &str, now: SystemTime) -> Result<&mut Secret, Refusal> {
        let number = self.number(id, operation, now)?;
        self.secrets.get_mut(&number).ok_or_else(Refusal::no_secret)
    }

    /// Changes a secret. What is refused changes nothing.
    pub fn change<T>(
        &mut self,
        id: &str,
        operation: &str,
        now: SystemTime,
        change: impl FnOnce(&mut Secret) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let number = self.number(id, operation, now)?;
        let secret = self.secrets.get_mut(&number).ok_or_else(Refusal::no_secret)?;
        let done = change(secret)?;
        self.listing.record(number, Some(secret), now);
        Ok(done)
    }

    /// `DeleteSecret` with a window; answers when it ends.
    pub fn schedule_deletion(&mut self, id: &str, days: u32, now: SystemTime) -> Result<SystemTime, Refusal> {
        self.change(id, "DeleteSecret", now, |secret| {
            if secret.deletion.is_some() {
                return Err(Refusal::invalid_request(
                    "You can't perform this operation on the secret because it was already scheduled for deletion.",
                ));
            }
            let ends = now + DAY * days;
            secret.deletion = Some(Deletion { requested: now, ends });
            secret.changed = now;
            Ok(ends)
        })
    }

    /// `DeleteSecret` at once. AWS does it in the background a moment later; here it is done at once.
    pub fn delete(&mut self, id: &str, now: SystemTime) -> Result<Secret, Refusal> {
        let number = self.number(id, "DeleteSecret", now)?;
        self.remove(number, now).ok_or_else(Refusal::no_secret)
    }

    fn remove(&mut self, number: u64, now: SystemTime) -> Option<Secret> {
        let secret = self.secrets.remove(&number)?;
        self.names.remove(&secret.name);
        self.arns.remove(&secret.arn);
        self.listing.record(number, None, now);
        Some(secret)
    }

    /// The name of the secret that an id means.
    pub fn name(&self, id: &str) -> Option<&str> {
        let number = self.names.get(id).or_else(|| self.arns.get(id)).or_else(|| self.names.get(named(id)?))?;
        self.secrets.get(number).map(|secret| secret.name.as_str())
    }

    /// Finds by name, by ARN and by ARN without its suffix. An ARN without suffix whose name itself ends like one
    /// finds nothing: <https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen>
    fn number(&mut self, id: &str, operation: &str, now: SystemTime) -> Result<u64, Refusal> {
        let number = if id.starts_with("arn:") {
            self.check_arn(id, operation)?;
            self.arns.get(id).or_else(|| self.names.get(named(id)?))
        } else {
            check_name(id)?;
            self.names.get(id)
        };
        let number = *number.ok_or_else(Refusal::no_secret)?;
        let ended = |secret: &Secret| secret.deletion.is_some_and(|deletion| deletion.ends <= now);
        if self.secrets.get(&number).is_some_and(ended) {
            self.remove(number, now);
            return Err(Refusal::no_secret());
        }
        Ok(number)
    }

    /// Another account's secrets are not ours to read, and another region's are not here.
    fn check_arn(&self, arn: &str, operation: &str) -> Result<(), Refusal> {
        match arn.split(':').collect::<Vec<_>>()[..] {
            [_, _, "secretsmanager", region, account, "secret", _] => {
                if account != self.account {
                    return Err(Refusal::denied(&self.account, operation, Some(arn), "resource-based"));
                }
                if region == self.region { Ok(()) } else { Err(Refusal::no_secret()) }
            }
            _ => Err(invalid_name()),
        }
    }
}

/// The name in an ARN without suffix.
fn named(arn: &str) -> Option<&str> {
    let name = arn.strip_prefix("arn:")?.splitn(6, ':').last()?;
    let suffixed = name
        .rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == SUFFIX && end.chars().all(|letter| letter.is_ascii_alphanumeric()));
    (!suffixed).then_some(name)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::constraint("Name", "have length greater than or equal to 1"));
    }
    if name.len() > LONGEST_NAME {
        return Err(Refusal::constraint("Name", "have length less than or equal to 512"));
    }
    // The `!` is in the names of secrets that other services of AWS make.
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "/_+=.@-!".contains(letter);
    if name.chars().all(allowed) { Ok(()) } else { Err(invalid_name()) }
}

fn invalid_name() -> Refusal {
    Refusal::validation(
        "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
    )
}

/// An id of the form of a UUID.
pub fn uuid(dice: &mut Rng) -> String {
    let hex = format!("{:032x}", dice.u128(..));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn store(names: &[&str]) -> Store {
        let mut store = Store::new("123456789012", "eu-west-1");
        for name in names {
            create(&mut store, name, "value").unwrap();
        }
        store
    }

    fn create(store: &mut Store, name: &str, value: &str) -> Result<String, Refusal> {
        let token = "1".repeat(32);
        let content = Some(Content::Text(value.to_owned()));
        let new = New { name, token: &token, content, description: None, tags: vec![] };
        store.create(new, START).map(|(secret, _)| secret.arn.clone())
    }

    fn code<T>(result: Result<T, Refusal>) -> String {
        result.map_or_else(|refusal| refusal.code.into_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn ids_are_names_arns_and_arns_without_suffix() {
        let mut store = store(&["team/app", "ends-abcdef"]);
        let arn = store.secret("team/app", "DescribeSecret", START).unwrap().arn.clone();
        let long = "n".repeat(513);
        let cases = [
            ("team/app", "ok"),
            (arn.as_str(), "ok"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/app", "ok"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/app-aaaaaa", "ResourceNotFoundException"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:ends-abcdef", "ResourceNotFoundException"),
            ("arn:aws:secretsmanager:us-east-1:123456789012:secret:team/app", "ResourceNotFoundException"),
            ("arn:aws:secretsmanager:eu-west-1:999999999999:secret:team/app", "AccessDeniedException"),
            ("arn:aws:s3:::team/app", "ValidationException"),
            ("ends-abcdef", "ok"),
            ("team", "ResourceNotFoundException"),
            ("team/app ", "ValidationException"),
            ("tëam", "ValidationException"),
            ("", "ValidationException"),
            (long.as_str(), "ValidationException"),
            (&long[..512], "ResourceNotFoundException"),
        ];
        for (id, expected) in cases {
            assert_eq!(code(store.secret(id, "DescribeSecret", START)), expected, "{id}");
        }
    }

    #[test]
    fn the_suffix_is_six_characters_and_another_for_each_secret() {
        let mut store = store(&["app"]);
        let first = store.secret("app", "DescribeSecret", START).unwrap().arn.clone();
        assert_eq!(first.rsplit_once('-').unwrap().1.len(), SUFFIX);
        store.delete("app", START).unwrap();
        let second = create(&mut store, "app", "value").unwrap();
        assert_ne!(first, second);
        assert_eq!(code(store.secret(&first, "DescribeSecret", START)), "ResourceNotFoundException");
        assert_eq!(code(store.secret(&second, "DescribeSecret", START)), "ok");
    }

    #[test]
    fn a_secret_is_created_once() {
        let mut store = store(&["app"]);
        assert_eq!(code(create(&mut store, "app", "value")), "ok", "the same request once more");
        assert_eq!(code(create(&mut store, "app", "other")), "ResourceExistsException");
        assert_eq!(store.secret("app", "DescribeSecret", START).unwrap().versions.len(), 1);
    }

    #[test]
    fn a_deletion_can_be_taken_back_until_its_window_ends() {
        let mut store = store(&["app", "other"]);
        let ends = store.schedule_deletion("app", 7, START).unwrap();
        assert_eq!(ends, START + DAY * 7);
        assert_eq!(code(store.schedule_deletion("app", 7, START)), "InvalidRequestException");
        assert_eq!(code(create(&mut store, "app", "value")), "InvalidRequestException");
        let restore = |secret: &mut Secret| {
            secret.deletion = None;
            Ok(())
        };
        assert_eq!(code(store.change("app", "RestoreSecret", START, restore)), "ok");
        store.schedule_deletion("app", 7, START).unwrap();
        let before = ends - Duration::from_secs(1);
        assert_eq!(code(store.secret("app", "DescribeSecret", before)), "ok");
        assert_eq!(code(store.change("app", "RestoreSecret", ends, restore)), "ResourceNotFoundException");
        assert_eq!(code(create(&mut store, "app", "value")), "ok");
    }
}
