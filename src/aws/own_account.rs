//! The account of the operator's own identity: asked for once, for all who wait, and not again soon after a failure.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::domain::secret::error::{SourceError, SourceErrorKind};

/// Nobody waits longer for an answer; the next reconcile has it.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// The pause after the first failure. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

type Answer = Result<String, SourceError>;

/// The account, or how far the question for it is.
#[derive(Clone, Debug, Default)]
pub struct OwnAccount(Arc<Mutex<Question>>);

#[derive(Debug, Default)]
struct Question {
    account: Option<String>,
    /// The question under way. Its sender is gone where the question panicked.
    under_way: Option<watch::Receiver<Option<Answer>>>,
    failure: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    error: SourceError,
    /// The failures in a row.
    count: u32,
    /// Before this time nobody asks again.
    retry_at: Instant,
}

impl OwnAccount {
    fn question(&self) -> MutexGuard<'_, Question> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account, where it is known.
    #[must_use]
    pub fn known(&self) -> Option<String> {
        self.question().account.clone()
    }

    /// The account. One question is under way at a time, and all who come meanwhile share its answer.
    ///
    /// # Errors
    /// The failure of the last question, until it is time to ask again; and where the answer takes long.
    pub async fn get<F>(&self, ask: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut answer = {
            let mut question = self.question();
            if let Some(account) = &question.account {
                return Ok(account.clone());
            }
            let under_way = question.under_way.clone().filter(|under_way| under_way.has_changed().is_ok());
            match (under_way, &question.failure) {
                (Some(under_way), _) => under_way,
                (None, Some(failure)) if Instant::now() < failure.retry_at => return Err(failure.error.clone()),
                (None, _) => {
                    let (sender, receiver) = watch::channel(None);
                    question.under_way = Some(receiver.clone());
                    tokio::spawn(self.clone().answer(sender, ask()));
                    receiver
                }
            }
        };
        match timeout(LONGEST_WAIT, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(late())),
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    async fn answer(self, sender: watch::Sender<Option<Answer>>, asked: impl Future<Output = Answer>) {
        let answer = asked.await;
        {
            let mut question = self.question();
            question.under_way = None;
            match &answer {
                Ok(account) => (question.account, question.failure) = (Some(account.clone()), None),
                Err(error) => {
                    let count = question.failure.as_ref().map_or(0, |failure| failure.count);
                    let pause = FIRST_PAUSE.saturating_mul(1 << count.min(10)).min(LONGEST_PAUSE);
                    let (error, retry_at) = (error.clone(), Instant::now() + pause);
                    question.failure = Some(Failure { error, count: count.saturating_add(1), retry_at });
                }
            }
        }
        sender.send_replace(Some(answer));
    }
}

fn late() -> SourceError {
    let fault = format!(
        "sts:GetCallerIdentity, which tells the operator's account, has not answered within {} s; check that STS can be reached, or set accountId in the SecretGrant",
        LONGEST_WAIT.as_secs()
    );
    SourceError {
        fault: Some(fault),
        ..SourceError::new(SourceErrorKind::CredentialsFailed, "(the operator's identity)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn refused() -> SourceError {
        SourceError::new(SourceErrorKind::CredentialsFailed, "own")
    }

    #[tokio::test(start_paused = true)]
    async fn forty_who_ask_while_sts_is_away_share_one_question_and_none_waits_for_another() {
        let (own, asked) = (OwnAccount::default(), AtomicUsize::new(0));
        let ask = || {
            asked.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_secs(15)).await;
                Err(refused())
            }
        };
        let started = Instant::now();
        let answers = futures::future::join_all((0..40).map(|_| own.get(ask))).await;
        assert!(answers.iter().all(Result::is_err));
        assert!(started.elapsed() <= Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The failure is remembered, and asked about less and less often.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(own.get(ask).await.is_err());
        }
        assert!((4..=12).contains(&asked.load(Ordering::SeqCst)), "{}", asked.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_and_a_question_that_panicked_is_asked_again() {
        let own = OwnAccount::default();
        assert!(own.get(|| async { panic!("a value") }).await.is_err());
        assert_eq!(own.known(), None);
        assert_eq!(own.get(|| async { Ok("123456789012".to_owned()) }).await, Ok("123456789012".to_owned()));
        assert_eq!(own.get(|| async { Err(refused()) }).await, Ok("123456789012".to_owned()));
        assert_eq!(own.known().as_deref(), Some("123456789012"));
    }
}
