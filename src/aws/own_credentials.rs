//! The operator's own credentials: each link of the chain is judged before it is asked and by what it gives, so that a
//! failure names the variable, the file or the link that is at fault, and a cure is seen. No text here holds a value.

pub mod chain;
pub mod fault;
pub mod link;
mod profile_file;
pub mod signs;
pub mod token_file;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout};

use crate::aws::own_credentials::chain::{Providers, providers};
use crate::aws::own_credentials::fault::{CredentialsFault, FailedLink};
use crate::aws::own_credentials::link::{Link, Variables, nothing};

/// Nobody waits longer for a link, so that it is named before the call that waits for it runs out of time.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// No read takes longer, so that the next one asks a link that has come back.
const LONGEST_READ: Duration = Duration::from_secs(10);
/// Credentials are renewed this long before their end.
const BEFORE_END: Duration = Duration::from_secs(10);
/// Credentials without an end are read anew after this time: somebody may have changed the file that they are from.
const KEPT_WITHOUT_END: Duration = Duration::from_secs(300);
/// What was read so recently is not read again because AWS refused it.
const JUST_READ: Duration = Duration::from_secs(2);

type Answer = std::result::Result<Credentials, FailedLink>;
type Build = Arc<dyn Fn() -> BoxFuture<'static, Providers> + Send + Sync>;

/// The credentials of the chain, checked and kept for all clients.
#[derive(Clone)]
pub struct OwnCredentials {
    build: Build,
    variables: Variables,
    region: String,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    providers: Option<Arc<Providers>>,
    given: Option<Given>,
    /// The read under way, for all who wait.
    under_way: Option<Shared<BoxFuture<'static, Answer>>>,
    /// The link that was asked last.
    link: Option<Link>,
}

struct Given {
    credentials: Credentials,
    at: Instant,
}

impl Given {
    fn is_fresh(&self) -> bool {
        self.credentials
            .expiry()
            .map_or(self.at.elapsed() < KEPT_WITHOUT_END, |end| end > SystemTime::now() + BEFORE_END)
    }
}

impl OwnCredentials {
    /// The credentials of the process, by its variables and files.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let region = config.region().map_or_else(|| "(none)".to_owned(), ToString::to_string);
        let config = config.clone();
        let build = move || {
            let config = config.clone();
            async move { providers(&config).await }.boxed()
        };
        Self::of(Arc::new(build), Variables::new(|name| std::env::var(name).ok()), region)
    }

    fn of(build: Build, variables: Variables, region: String) -> Self {
        Self { build, variables, region, kept: Arc::default() }
    }

    /// The link that was asked last, as a message names it.
    #[must_use]
    pub fn describe(&self) -> String {
        let link = self.kept().link;
        link.map_or_else(|| "the operator's credential chain".to_owned(), |link| link.describe(&self.variables))
    }

    /// What to say of credentials that AWS refuses.
    #[must_use]
    pub fn refused(&self) -> String {
        let cure = match self.kept().link {
            Some(Link::Variables) => "correct them and restart the operator, which reads its variables once",
            _ => "correct it; it is read again by itself",
        };
        format!("AWS refuses the credentials of {}; {cure}", self.describe())
    }

    /// Reads all anew, since AWS refuses what is kept.
    pub fn forget(&self) {
        let mut kept = self.kept();
        if kept.given.as_ref().is_some_and(|given| given.at.elapsed() >= JUST_READ) {
            (kept.given, kept.providers) = (None, None);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn credentials(&self) -> Result {
        let under_way = {
            let mut kept = self.kept();
            if let Some(given) = kept.given.as_ref().filter(|given| given.is_fresh()) {
                return Ok(given.credentials.clone());
            }
            // It goes on where those who wait for it give up.
            let read = || tokio::spawn(self.clone().read()).map(|read| read.unwrap_or_else(|_| Err(ended()))).boxed();
            kept.under_way.get_or_insert_with(|| read().shared()).clone()
        };
        match timeout(LONGEST_WAIT, under_way).await {
            Ok(answer) => answer.map_err(CredentialsError::from),
            Err(_) => Err(self.late(LONGEST_WAIT).into()),
        }
    }

    fn late(&self, waited: Duration) -> FailedLink {
        let what = format!("has not answered within {} s; check it and the network policy", waited.as_secs());
        CredentialsFault::Link { link: self.describe(), what }.into()
    }

    async fn read(self) -> Answer {
        let answer = match timeout(LONGEST_READ, AssertUnwindSafe(self.ask()).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let what = "ended the AWS SDK in a panic; check its variables and restart the operator".to_owned();
                Err(CredentialsFault::Link { link: self.describe(), what }.into())
            }
            Err(_) => Err(self.late(LONGEST_READ)),
        };
        let mut kept = self.kept();
        kept.under_way = None;
        match &answer {
            Ok(credentials) => {
                // A provider keeps what it has read from a file for ever.
                if credentials.expiry().is_none() {
                    kept.providers = None;
                }
                kept.given = Some(Given { credentials: credentials.clone(), at: Instant::now() });
            }
            Err(_) => kept.providers = None,
        }
        drop(kept);
        answer
    }

    async fn ask(&self) -> Answer {
        let known = self.kept().providers.clone();
        let providers = match known {
            Some(providers) => providers,
            None => Arc::new((self.build)().await),
        };
        self.kept().providers = Some(providers.clone());
        for (link, provider) in &*providers {
            self.kept().link = Some(*link);
            if let Some(fault) = link.refused(&self.variables) {
                return Err(fault.into());
            }
            match provider.provide_credentials().await {
                Ok(credentials) => {
                    let fault = link.unusable(&credentials, &self.variables);
                    return fault.map_or(Ok(credentials), |fault| Err(fault.into()));
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => {
                    let fault = link.failed(&error, &self.variables, &self.region);
                    return Err(FailedLink::new(fault, Some(error)));
                }
            }
        }
        self.kept().link = None;
        Err(nothing(&self.variables).into())
    }
}

fn ended() -> FailedLink {
    CredentialsFault::Setting("the search for credentials ended; it is begun anew".to_owned()).into()
}

impl fmt::Debug for OwnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCredentials").finish_non_exhaustive()
    }
}

impl ProvideCredentials for OwnCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests;
