//! Jobs on a real embedded store, under a clock that the test moves.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use whyrank_plugin::EmbeddedSettings;

use super::*;
use crate::storage::StoreSettings;

/// An installation whose clock stands still until it is moved.
struct Bench {
    jobs: Jobs,
    time: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new(settings: QueueSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let embedded = EmbeddedSettings {
            folder: folder.path().join("store"),
            minimum_free_bytes: 0,
            ..EmbeddedSettings::default()
        };
        let store = StoreSettings { embedded, ..StoreSettings::default() };
        let storage = Storage::open(&store).await.unwrap();
        storage.ensure(2, 2).await.unwrap();
        let time = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = time.clone();
        let jobs = Jobs::new(storage, settings, Metrics::new().unwrap())
            .with_clock(move || clock.load(Ordering::SeqCst));
        Self { jobs, time, _folder: folder }
    }

    fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    async fn offer(&self, item: u64, lane: Lane) -> Offered {
        self.jobs.offer(&[wanted(item, lane)]).await.unwrap()
    }

    async fn claim(&self) -> Option<Claim> {
        self.jobs.claim("worker", &Lane::ALL).await.unwrap()
    }
}

fn wanted(item: u64, lane: Lane) -> Wanted {
    Wanted { user: UserId(1.into()), item: ItemId(item.into()), lane }
}

fn item(claim: &Option<Claim>) -> Option<PointId> {
    claim.as_ref().map(|claim| claim.job.item.point())
}

#[tokio::test]
async fn a_pair_waits_once_and_the_urgent_go_first() {
    let bench = Bench::new(QueueSettings::default()).await;
    assert_eq!(bench.offer(1, Lane::Backfill).await.queued, 1);
    assert_eq!(bench.offer(2, Lane::Shown).await.queued, 1);
    assert_eq!(bench.offer(1, Lane::Backfill).await.known, 1);
    let twice = [wanted(3, Lane::Backfill), wanted(3, Lane::Stale)];
    assert_eq!(bench.jobs.offer(&twice).await.unwrap().queued, 1);
    // Asked for by a request, the one that came first goes first after all.
    bench.offer(1, Lane::Live).await;
    let status = bench.jobs.status().await.unwrap();
    assert_eq!((status.depth, status.lanes["live"], status.lanes["stale"]), (3, 1, 1));
    for expected in [1_u64, 2, 3] {
        let claim = bench.claim().await;
        assert_eq!(item(&claim), Some(expected.into()));
        bench.jobs.finish(&claim.unwrap()).await.unwrap();
    }
    assert_eq!(bench.claim().await, None);
    assert_eq!(bench.jobs.status().await.unwrap().depth, 0);
}

#[tokio::test]
async fn a_lease_keeps_others_away_until_it_ends() {
    let bench = Bench::new(QueueSettings::default()).await;
    bench.offer(1, Lane::Shown).await;
    let first = bench.claim().await.unwrap();
    assert_eq!(bench.claim().await, None);
    bench.pass(50);
    assert!(bench.jobs.renew(&first).await.unwrap());
    bench.pass(50);
    assert_eq!(bench.claim().await, None, "it was renewed");
    bench.pass(11);
    let second = bench.claim().await.unwrap();
    assert_eq!(second.job.attempts, 2, "the attempt of a worker that died counts");
    assert!(!bench.jobs.renew(&first).await.unwrap());
    // What the first does now changes nothing.
    bench.jobs.finish(&first).await.unwrap();
    bench.jobs.release(&first).await.unwrap();
    bench.jobs.fail(&first, "late", true).await.unwrap();
    assert!(bench.jobs.renew(&second).await.unwrap());
    bench.jobs.finish(&second).await.unwrap();
    assert_eq!(bench.jobs.status().await.unwrap().depth, 0);
}

/// Regression: a request that waited did not shorten a job's backoff, and one that was given up stayed so.
#[tokio::test]
async fn who_waits_makes_a_pair_due_at_once() {
    let settings = QueueSettings { attempts: 2, ..QueueSettings::default() };
    let bench = Bench::new(settings).await;
    bench.offer(1, Lane::Shown).await;
    let claim = bench.claim().await.unwrap();
    bench.jobs.fail(&claim, "away", false).await.unwrap();
    bench.offer(1, Lane::Shown).await;
    assert_eq!(bench.claim().await, None, "it was merely shown again");
    bench.offer(1, Lane::Live).await;
    let claim = bench.claim().await.unwrap();
    assert_eq!((claim.job.attempts, claim.job.lane), (2, Lane::Live.number()));
    // Whoever has it already is left alone.
    bench.offer(1, Lane::Live).await;
    assert!(bench.jobs.renew(&claim).await.unwrap());
    bench.jobs.fail(&claim, "away", false).await.unwrap();
    assert_eq!(bench.jobs.status().await.unwrap().dead, 1);
    bench.offer(1, Lane::Stale).await;
    assert_eq!(bench.claim().await, None, "given up is given up, unless somebody waits");
    bench.offer(1, Lane::Live).await;
    let claim = bench.claim().await.unwrap();
    bench.jobs.fail(&claim, "away", false).await.unwrap();
    assert_eq!(bench.jobs.status().await.unwrap().dead, 1, "it had one more attempt");
}

#[tokio::test]
async fn a_pair_that_is_put_off_keeps_its_attempts() {
    let bench = Bench::new(QueueSettings { attempts: 1, ..QueueSettings::default() }).await;
    bench.offer(1, Lane::Shown).await;
    for _ in 0..3 {
        let claim = bench.claim().await.unwrap();
        assert_eq!(claim.job.attempts, 1);
        bench.jobs.put_off(&claim, "the LLM is away", Duration::from_secs(30)).await.unwrap();
        bench.pass(29);
        assert_eq!(bench.claim().await, None, "not before its time");
        bench.pass(31);
    }
    assert_eq!(bench.jobs.status().await.unwrap().dead, 0);
}

#[tokio::test]
async fn a_clock_that_jumps_loses_no_job_and_stops_none() {
    let bench = Bench::new(QueueSettings::default()).await;
    bench.offer(1, Lane::Shown).await;
    let claim = bench.claim().await.unwrap();
    bench.pass(-20);
    assert_eq!(bench.claim().await, None, "a lease that is a little longer is kept");
    assert!(bench.jobs.renew(&claim).await.unwrap(), "its holder brings it back to the clock");
    bench.pass(-86_400);
    bench.offer(2, Lane::Shown).await;
    let both = [bench.claim().await, bench.claim().await];
    assert!(both.iter().all(Option::is_some), "nothing waits for a day that was passed already");
    assert_eq!(bench.claim().await, None, "what was taken since is kept");
    assert!(!bench.jobs.renew(&claim).await.unwrap(), "its first holder learns that it lost it");
    bench.pass(10 * 86_400);
    for claim in both.into_iter().flatten() {
        bench.jobs.finish(&claim).await.unwrap();
    }
    assert_eq!(bench.jobs.status().await.unwrap().depth, 0);
}

#[tokio::test]
async fn what_fails_waits_longer_each_time_and_ends_among_the_dead_letters() {
    let settings = QueueSettings {
        attempts: 3,
        retry_initial_seconds: 10,
        retry_maximum_seconds: 15,
        ..QueueSettings::default()
    };
    let bench = Bench::new(settings).await;
    bench.offer(1, Lane::Shown).await;
    for (wait, most) in [(10, 13), (15, 19)] {
        let claim = bench.claim().await.unwrap();
        let failure = bench.jobs.fail(&claim, "the model is away", false).await.unwrap();
        assert_eq!(failure, Failure::Retried);
        bench.pass(wait - 1);
        assert_eq!(bench.claim().await, None, "not before {wait} s");
        bench.pass(most - wait + 1);
    }
    let claim = bench.claim().await.unwrap();
    assert_eq!(bench.jobs.fail(&claim, "still away", false).await.unwrap(), Failure::Dead);
    assert_eq!(
        bench.offer(1, Lane::Shown).await.known,
        1,
        "dead letters are not revived by chance"
    );
    assert_eq!(bench.claim().await, None);
    let letters = bench.jobs.dead_letters(10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    assert_eq!(letters[0].error, "still away");
    let other = [(UserId(1.into()), ItemId(2.into()))];
    assert_eq!(bench.jobs.replay(Some(&other)).await.unwrap(), 0);
    assert_eq!(bench.jobs.replay(None).await.unwrap(), 1);
    assert_eq!(bench.claim().await.unwrap().job.attempts, 1);
    assert_eq!(bench.jobs.status().await.unwrap().dead, 0);
}

#[tokio::test]
async fn a_pair_that_kills_its_workers_is_given_up() {
    let settings = QueueSettings { attempts: 2, ..QueueSettings::default() };
    let bench = Bench::new(settings).await;
    bench.offer(1, Lane::Shown).await;
    for _ in 0..2 {
        assert!(bench.claim().await.is_some());
        bench.pass(61);
    }
    assert_eq!(bench.claim().await, None);
    let letters = bench.jobs.dead_letters(10).await.unwrap();
    assert!(letters[0].error.contains("worker ended"), "{letters:?}");
}

#[tokio::test]
async fn a_pair_asked_for_again_while_it_is_written_is_written_again() {
    let bench = Bench::new(QueueSettings::default()).await;
    bench.offer(1, Lane::Stale).await;
    let claim = bench.claim().await.unwrap();
    bench.pass(1);
    bench.offer(1, Lane::Stale).await;
    bench.jobs.finish(&claim).await.unwrap();
    let again = bench.claim().await.expect("it stays");
    assert_eq!(again.job.attempts, 1, "with all its attempts");
    bench.jobs.finish(&again).await.unwrap();
    assert_eq!(bench.claim().await, None);
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_the_urgent() {
    let settings = QueueSettings { capacity: 2, ..QueueSettings::default() };
    let bench = Bench::new(settings).await;
    let given = [(1, Lane::Backfill), (2, Lane::Shown), (3, Lane::Live)];
    let offered = bench.jobs.offer(&given.map(|(item, lane)| wanted(item, lane))).await.unwrap();
    assert_eq!((offered.queued, offered.refused), (2, 1));
    assert_eq!(offered.reason.as_deref(), Some("full"));
    assert_eq!(bench.jobs.find(UserId(1.into()), ItemId(1.into())).await.unwrap(), None);
    let refused = bench.jobs.metrics.queue_refused.with_label_values(&["full"]).get();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn pausing_and_draining_are_kept_in_the_store() {
    let bench = Bench::new(QueueSettings::default()).await;
    bench.jobs.pause(true).await.unwrap();
    bench.jobs.drain(true).await.unwrap();
    bench.jobs.announce("openai/m@1", "p1").await.unwrap();
    let other =
        Jobs::new(bench.jobs.storage.clone(), QueueSettings::default(), Metrics::new().unwrap());
    let control = other.control().await.unwrap();
    assert!(control.paused && control.draining);
    assert_eq!(control.generator.as_deref(), Some("openai/m@1"));
    assert_eq!(bench.offer(1, Lane::Shown).await.reason.as_deref(), Some("draining"));
    bench.jobs.drain(false).await.unwrap();
    assert_eq!(bench.offer(1, Lane::Shown).await.queued, 1);
    assert_eq!(other.control().await.unwrap().prompt_version.as_deref(), Some("p1"));
}

#[tokio::test]
async fn the_budget_of_an_hour_is_shared_and_ends_with_it() {
    use crate::generator::Usage;
    use crate::queue::Budget;
    let settings =
        QueueSettings { pairs_per_hour: 3, tokens_per_hour: 1_000, ..QueueSettings::default() };
    let bench = Bench::new(settings).await;
    let (one, other) = (Budget::new(bench.jobs.clone(), "a"), Budget::new(bench.jobs.clone(), "b"));
    let cost = Usage { prompt_tokens: 100, completion_tokens: 50, ..Usage::default() };
    for budget in [&one, &other] {
        assert_eq!(budget.spent_up().await.unwrap(), None);
        budget.spend(cost, true).await.unwrap();
    }
    one.spend(cost, true).await.unwrap();
    let refusal = other.spent_up().await.unwrap().unwrap();
    assert!(refusal.contains("queue.pairs_per_hour"), "{refusal}");
    bench.pass(3_600);
    assert_eq!(one.spent_up().await.unwrap(), None);
    one.spend(Usage { prompt_tokens: 1_000, ..cost }, true).await.unwrap();
    let refusal = other.spent_up().await.unwrap().unwrap();
    assert!(refusal.contains("queue.tokens_per_hour"), "{refusal}");
}

/// What may happen to a queue.
#[derive(Debug, Clone)]
enum Event {
    Offer(u64),
    Claim,
    Finish(usize),
    Fail(usize),
    Release(usize),
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..5).prop_map(Event::Offer),
        Just(Event::Claim),
        any::<usize>().prop_map(Event::Finish),
        any::<usize>().prop_map(Event::Fail),
        any::<usize>().prop_map(Event::Release),
        (0_i64..100).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_job_is_lost_or_had_by_two_whatever_happens(events in prop::collection::vec(event(), 1..60)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(QueueSettings { attempts: 1_000, ..QueueSettings::default() }).await;
            let mut claims: Vec<Claim> = Vec::new();
            let mut expected = std::collections::BTreeSet::new();
            for event in events {
                match event {
                    Event::Offer(item) => {
                        bench.offer(item, Lane::Shown).await;
                        expected.insert(PointId::from(item));
                    }
                    Event::Claim => claims.extend(bench.claim().await),
                    Event::Pass(seconds) => bench.pass(seconds),
                    Event::Finish(which) | Event::Fail(which) | Event::Release(which) => {
                        if claims.is_empty() {
                            continue;
                        }
                        let claim = claims.swap_remove(which % claims.len());
                        let holds = bench.jobs.find(claim.job.user, claim.job.item).await.unwrap();
                        let holds = holds.is_some_and(|job| job.lease.as_ref() == Some(&claim.token));
                        match event {
                            Event::Finish(_) => {
                                bench.jobs.finish(&claim).await.unwrap();
                                if holds {
                                    expected.remove(&claim.job.item.point());
                                }
                            }
                            Event::Fail(_) => drop(bench.jobs.fail(&claim, "x", false).await.unwrap()),
                            _ => bench.jobs.release(&claim).await.unwrap(),
                        }
                    }
                }
                let mut held = Vec::new();
                for claim in &claims {
                    let job = bench.jobs.find(claim.job.user, claim.job.item).await.unwrap();
                    if job.is_some_and(|job| job.lease.as_ref() == Some(&claim.token)) {
                        held.push(claim.job.item);
                    }
                }
                let all = held.len();
                held.sort_unstable();
                held.dedup();
                assert_eq!(held.len(), all, "a job is had by two");
            }
            let mut left = std::collections::BTreeSet::new();
            bench.jobs.walk("waiting", usize::MAX, |job| left.extend([job.item.point()])).await.unwrap();
            assert_eq!(left, expected);
        });
    }
}
