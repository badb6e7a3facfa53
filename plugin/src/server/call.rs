//! One call on the server: attempts with backoff and jitter under one cap, behind the breaker.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tokio::time::timeout;
use tonic::{Response, Status};

use super::breaker::Breaker;
use super::error::{is_outage, is_retryable, retry_after, store_error, words};
use super::settings::{ServerSettings, duration};
use crate::store::{StoreError, StoreResult};

/// Makes calls with the patience that the settings allow.
#[derive(Debug)]
pub(super) struct Caller {
    url: String,
    request_timeout: Duration,
    total_timeout: Duration,
    backoff: ExponentialBuilder,
    breaker: Breaker,
}

impl Caller {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        let initial = duration(settings.backoff_initial_seconds);
        let backoff = ExponentialBuilder::default()
            .with_factor(2.0)
            .with_min_delay(initial)
            .with_max_delay(duration(settings.backoff_maximum_seconds).max(initial))
            .with_max_times(settings.maximum_attempts.saturating_sub(1))
            .with_jitter();
        Self {
            url: settings.url.clone(),
            request_timeout: duration(settings.request_timeout_seconds),
            total_timeout: duration(settings.total_timeout_seconds),
            backoff,
            breaker: Breaker::new(
                settings.breaker_failures,
                duration(settings.breaker_cool_down_seconds),
                Box::new(Instant::now),
            ),
        }
    }

    /// Calls until it succeeds, fails for good, or the patience ends. What is called must be harmless
    /// when done twice, because an answer that was lost is no answer.
    pub(super) async fn call<T, Answer>(
        &self,
        collection: &str,
        attempt: impl Fn() -> Answer,
    ) -> StoreResult<T>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let permit = self.breaker.admit().map_err(|left| self.left_alone(left))?;
        match self.attempts(attempt).await {
            Ok(answer) => {
                permit.succeeded();
                Ok(answer)
            }
            Err(status) => {
                if is_outage(&status) {
                    permit.failed()
                } else {
                    permit.succeeded()
                }
                Err(store_error(&self.url, collection, &status))
            }
        }
    }

    async fn attempts<T, Answer>(&self, attempt: impl Fn() -> Answer) -> Result<T, Status>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        // What the last attempt met, to be told if the cap ends the waiting.
        let last: Mutex<Option<Status>> = Mutex::new(None);
        let attempts = (|| {
            let attempt = timeout(self.request_timeout, attempt());
            let last = &last;
            async move {
                let answer = match attempt.await {
                    Ok(answer) => answer.map(Response::into_inner),
                    Err(_) => Err(Status::deadline_exceeded(format!(
                        "no answer within {:?}",
                        self.request_timeout
                    ))),
                };
                if let Err(status) = &answer {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
                }
                answer
            }
        })
        .retry(self.backoff)
        .when(is_retryable)
        .adjust(pause)
        .notify(|status, delay| {
            tracing::debug!(url = self.url, ?delay, reason = words(status), "trying again");
        });
        match timeout(self.total_timeout, attempts).await {
            Ok(answer) => answer,
            Err(_) => {
                let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
                let reason = last.as_ref().map_or("no answer".to_owned(), words);
                let detail = format!("gave up after {:?}: {reason}", self.total_timeout);
                // A server that is only busy stays one that is not down.
                let code = last.map_or(tonic::Code::DeadlineExceeded, |status| status.code());
                Err(Status::new(
                    if code == tonic::Code::ResourceExhausted {
                        code
                    } else {
                        tonic::Code::DeadlineExceeded
                    },
                    detail,
                ))
            }
        }
    }

    fn left_alone(&self, left: Duration) -> StoreError {
        let detail = if left.is_zero() {
            format!("it did not answer and is being tried by another call ({})", self.url)
        } else {
            format!("it did not answer; it is tried again in {left:?} ({})", self.url)
        };
        StoreError::Unavailable { detail }
    }
}

/// The wait before the next attempt, not shorter than the server wants it; none after the last.
fn pause(status: &Status, delay: Option<Duration>) -> Option<Duration> {
    Some(delay?.max(retry_after(status).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn patient() -> ServerSettings {
        ServerSettings {
            backoff_initial_seconds: 0.001,
            backoff_maximum_seconds: 0.002,
            ..ServerSettings::default()
        }
    }

    /// Calls what answers with these statuses and then succeeds; returns the answer and the number of
    /// attempts.
    async fn attempts(settings: &ServerSettings, statuses: &[Status]) -> (StoreResult<()>, usize) {
        let made = AtomicUsize::new(0);
        let answer = Caller::new(settings)
            .call("items", || {
                let number = made.fetch_add(1, Ordering::Relaxed);
                let answer = statuses.get(number).cloned();
                async { answer.map_or(Ok(Response::new(())), Err) }
            })
            .await;
        (answer, made.into_inner())
    }

    #[tokio::test]
    async fn faults_that_may_pass_are_tried_again_and_others_are_not() {
        let passing =
            [Status::unavailable("1"), Status::aborted("2"), Status::deadline_exceeded("3")];
        let (answer, made) = attempts(&patient(), &passing).await;
        assert!(answer.is_ok());
        assert_eq!(made, 4);
        let (answer, made) = attempts(&patient(), &[Status::invalid_argument("no")]).await;
        assert!(matches!(answer, Err(StoreError::InvalidRequest { .. })));
        assert_eq!(made, 1);
        let down = vec![Status::unavailable("down"); 9];
        let (answer, made) = attempts(&patient(), &down).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })));
        assert_eq!(made, 4);
    }

    /// A status that asks for so many seconds of peace.
    fn busy(seconds: &str) -> Status {
        let mut status = Status::resource_exhausted("busy");
        status.metadata_mut().insert("retry-after", seconds.parse().unwrap());
        status
    }

    #[test]
    fn the_wait_that_the_server_asks_for_is_kept() {
        let short = Duration::from_millis(1);
        let wait = |status: &Status| pause(status, Some(short));
        assert_eq!(wait(&busy("9")), Some(Duration::from_secs(9)));
        assert_eq!(wait(&busy("0")), Some(short));
        assert_eq!(wait(&Status::unavailable("down")), Some(short));
        assert_eq!(pause(&busy("9"), None), None, "no wait after the last attempt");
    }

    #[tokio::test]
    async fn the_cap_ends_the_waiting_and_says_why_there_was_any() {
        let settings = ServerSettings { total_timeout_seconds: 0.02, ..patient() };
        let start = Instant::now();
        let error = attempts(&settings, &[busy("900")]).await.0.unwrap_err().to_string();
        assert!(error.contains("busy") && error.contains("20ms"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(900));
    }

    #[tokio::test]
    async fn an_attempt_without_an_answer_ends_and_the_breaker_opens() {
        let settings = ServerSettings {
            request_timeout_seconds: 0.01,
            maximum_attempts: 2,
            breaker_failures: 2,
            breaker_cool_down_seconds: 3_600.0,
            ..patient()
        };
        let caller = Caller::new(&settings);
        for _ in 0..2 {
            let never = || std::future::pending::<Result<Response<()>, Status>>();
            let error = caller.call("items", never).await.unwrap_err();
            assert!(error.is_retryable() && error.to_string().contains("10ms"), "{error}");
        }
        let untouched = || -> std::future::Ready<Result<Response<()>, Status>> {
            panic!("an open breaker lets no call through")
        };
        let error = caller.call("items", untouched).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("tried again in"), "{error}");
    }

    #[tokio::test]
    async fn answers_that_the_caller_caused_do_not_open_the_breaker() {
        let settings = ServerSettings { breaker_failures: 1, maximum_attempts: 1, ..patient() };
        let caller = Caller::new(&settings);
        for status in [Status::invalid_argument("bad"), busy("0"), Status::not_found("gone")] {
            let answer = || std::future::ready(Err::<Response<()>, Status>(status.clone()));
            caller.call("items", answer).await.unwrap_err();
        }
        let answer = || std::future::ready(Ok(Response::new(())));
        caller.call("items", answer).await.unwrap();
    }
}
