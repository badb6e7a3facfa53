//! The circuit breaker: a server that failed several times in a row is left alone for a while, so
//! that callers learn at once that it is down instead of each waiting for it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Tells the time; tests bring their own.
pub(super) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Counts failures and says which calls may go through.
pub(super) struct Breaker {
    /// Failures in a row that open it; 0 keeps it closed.
    failures: u32,
    cool_down: Duration,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// All calls go through; so many failed in a row.
    Closed { failed: u32 },
    /// No call goes through until then.
    Open { until: Instant },
    /// One call is trying the server; no other goes through.
    Probing,
}

/// The permission for one call. Dropping it without a verdict, because the caller has left, lets
/// another call try.
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    judged: bool,
}

impl Breaker {
    pub(super) fn new(failures: u32, cool_down: Duration, clock: Clock) -> Self {
        Self { failures, cool_down, clock, state: Mutex::new(State::Closed { failed: 0 }) }
    }

    /// Lets a call through, or says how long none will be.
    pub(super) fn admit(&self) -> Result<Permit<'_>, Duration> {
        let mut state = self.lock();
        let probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } => {
                let left = until.saturating_duration_since((self.clock)());
                if !left.is_zero() {
                    return Err(left);
                }
                *state = State::Probing;
                true
            }
            State::Probing => return Err(Duration::ZERO),
        };
        Ok(Permit { breaker: self, probe, judged: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The server answered.
    pub(super) fn succeeded(mut self) {
        self.judged = true;
        let mut state = self.breaker.lock();
        // A late answer to an old call does not close it: only the probe does.
        if self.probe || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failed: 0 };
        }
    }

    /// The server did not answer.
    pub(super) fn failed(mut self) {
        self.judged = true;
        let until = (self.breaker.clock)() + self.breaker.cool_down;
        let mut state = self.breaker.lock();
        match *state {
            State::Probing if self.probe => *state = State::Open { until },
            State::Closed { failed } => {
                let failed = failed.saturating_add(1);
                let opens = self.breaker.failures > 0 && failed >= self.breaker.failures;
                *state = if opens { State::Open { until } } else { State::Closed { failed } };
            }
            State::Open { .. } | State::Probing => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe && !self.judged {
            *self.breaker.lock() = State::Open { until: (self.breaker.clock)() };
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Breaker").field("state", &*self.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const COOL_DOWN: Duration = Duration::from_secs(10);

    /// A breaker that opens after `failures`, and the hand that moves its clock.
    fn breaker(failures: u32) -> (Breaker, impl Fn(Duration)) {
        let now = Arc::new(Mutex::new(Instant::now()));
        let hand = Arc::clone(&now);
        let clock = Box::new(move || *now.lock().unwrap());
        (Breaker::new(failures, COOL_DOWN, clock), move |step| *hand.lock().unwrap() += step)
    }

    fn fail(breaker: &Breaker) {
        breaker.admit().expect("a call is let through").failed();
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_probe_closes_it() {
        let (breaker, advance) = breaker(3);
        fail(&breaker);
        fail(&breaker);
        breaker.admit().ok().unwrap().succeeded();
        fail(&breaker);
        fail(&breaker);
        assert!(breaker.admit().is_ok(), "a success between starts the count again");
        fail(&breaker);
        assert_eq!(breaker.admit().err(), Some(COOL_DOWN));
        advance(COOL_DOWN / 2);
        assert_eq!(breaker.admit().err(), Some(COOL_DOWN / 2));
        advance(COOL_DOWN / 2);
        let probe = breaker.admit().expect("one call tries the server");
        assert!(breaker.admit().is_err(), "only one");
        probe.succeeded();
        breaker.admit().ok().unwrap().succeeded();
        fail(&breaker);
        assert!(breaker.admit().is_ok(), "closed again, with a new count");
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_one_that_is_dropped_lets_the_next_try() {
        let (breaker, advance) = breaker(1);
        fail(&breaker);
        advance(COOL_DOWN);
        fail(&breaker);
        assert_eq!(breaker.admit().err(), Some(COOL_DOWN));
        advance(COOL_DOWN);
        drop(breaker.admit());
        let probe = breaker.admit().expect("the next call tries");
        probe.succeeded();
        assert!(breaker.admit().is_ok());
    }

    #[test]
    fn what_old_calls_learn_does_not_move_an_open_one() {
        let (breaker, advance) = breaker(1);
        let (late_success, late_failure) =
            (breaker.admit().ok().unwrap(), breaker.admit().ok().unwrap());
        fail(&breaker);
        late_success.succeeded();
        assert!(breaker.admit().is_err());
        advance(COOL_DOWN / 2);
        late_failure.failed();
        assert_eq!(breaker.admit().err(), Some(COOL_DOWN / 2));
    }

    #[test]
    fn without_a_limit_it_never_opens() {
        let (breaker, _) = breaker(0);
        for _ in 0..100 {
            fail(&breaker);
        }
        assert!(breaker.admit().is_ok());
    }
}
