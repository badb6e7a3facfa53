//! How long the worker leaves an LLM alone that fails, and whose fault a failure is.
//!
//! The first failure after a success may be its pair's fault and costs it an attempt. Those that follow mean
//! that the LLM is away, which must not use up the attempts of all pairs that wait. So a pair alone in the
//! queue that no LLM can write is not given up before another one was written in between; it is tried ever
//! more rarely instead.

use std::time::Duration;

use whyrank_plugin::PointId;

/// The shortest wait before an LLM that failed is asked again.
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest wait: each time costs as much as a pair.
const LONGEST: Duration = Duration::from_secs(30);

/// The LLM's failures in a row.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// How long the worker waits before it asks again; nothing while the LLM answers.
    wait: Duration,
    /// The pair of the last failure, and how long it was put off.
    last: Option<(PointId, Duration)>,
}

/// Whose fault a failure is, as far as one can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// That of what the LLM was asked.
    Pair,
    /// The LLM is away: the pair is due again after this, when others have had their turn.
    Model {
        /// Longer than the worker waits.
        again_after: Duration,
    },
}

impl Outage {
    /// How long the LLM is left alone.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// The LLM answered; true if it had failed before.
    pub(super) fn over(&mut self) -> bool {
        !std::mem::take(self).wait.is_zero()
    }

    /// The LLM failed at this pair, which is put off for `longest` at most.
    pub(super) fn failed(&mut self, pair: PointId, longest: Duration) -> Blame {
        let first = self.wait.is_zero();
        self.wait = (self.wait * 2).clamp(SHORTEST, LONGEST);
        if first {
            self.last = Some((pair, Duration::ZERO));
            return Blame::Pair;
        }
        // The same pair again: there is no other to try, so that it is tried more and more rarely.
        let before =
            self.last.filter(|(last, _)| *last == pair).map_or(Duration::ZERO, |(_, for_)| for_);
        let again_after = (before * 2).max(self.wait * 2).min(longest.max(self.wait * 2));
        self.last = Some((pair, again_after));
        Blame::Model { again_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn away(blame: Blame) -> Duration {
        let Blame::Model { again_after } = blame else { panic!("{blame:?}") };
        again_after
    }

    #[test]
    fn only_the_first_failure_after_a_success_is_a_pairs_own() {
        let mut outage = Outage::default();
        assert!(!outage.over(), "nothing had failed");
        assert_eq!(outage.failed(0_u64.into(), LONG), Blame::Pair);
        assert_eq!(outage.wait(), SHORTEST);
        for pair in 1..20_u64 {
            let again_after = away(outage.failed(pair.into(), LONG));
            assert_eq!(again_after, outage.wait() * 2, "others come first");
        }
        assert_eq!(outage.wait(), LONGEST);
        assert!(outage.over() && outage.wait().is_zero());
        assert_eq!(outage.failed(1_u64.into(), LONG), Blame::Pair);
    }

    #[test]
    fn a_pair_alone_is_tried_more_and_more_rarely() {
        let mut outage = Outage::default();
        outage.failed(7_u64.into(), LONG);
        let waits: Vec<Duration> =
            (0..20).map(|_| away(outage.failed(7_u64.into(), LONG))).collect();
        assert!(waits.is_sorted() && waits.last() == Some(&LONG), "{waits:?}");
        let other = away(outage.failed(8_u64.into(), LONG));
        assert_eq!(other, LONGEST * 2, "another has not waited yet");
    }
}
