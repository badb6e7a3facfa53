//! Tests of the ranker as a whole: training, export, the runtimes' agreement, contributions.

use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::onnx::Value;
use crate::progress::{Progress, Silent};
use crate::testing::{assert_close, both_runtimes, numbers};

const VECTOR: usize = 8;
const CODE: usize = 6;
const HISTORY: usize = 5;

fn shape() -> RankerShape {
    RankerShape { vector: VECTOR, code: CODE, context: vec!["mean".into(), "count".into()] }
}

fn settings() -> RankerSettings {
    RankerSettings {
        history_length: HISTORY,
        hidden: [32, 16],
        starts: 1,
        training: TrainingSettings { epochs: 6, batch: 64, ..Default::default() },
        ..Default::default()
    }
}

/// One example's numbers, with a rating that depends on every group.
struct Example {
    user: Vec<f32>,
    item: Vec<f32>,
    positive: Vec<f32>,
    negative: Vec<f32>,
    context: Vec<f32>,
    history: Vec<(Vec<f32>, f32)>,
    rating: f32,
}

impl Example {
    fn new(random: &mut StdRng) -> Self {
        let length = random.random_range(0..=HISTORY);
        let mut row =
            |n: usize| -> Vec<f32> { (0..n).map(|_| random.random_range(-1.0..1.0)).collect() };
        let (user, item) = (row(VECTOR), row(VECTOR));
        let (positive, negative, context) = (row(CODE), row(CODE), row(2));
        let history: Vec<(Vec<f32>, f32)> =
            (0..HISTORY).map(|_| (row(VECTOR), row(1)[0] + 3.0)).collect();
        let history = history[..length].to_vec();
        let dot: f32 = user.iter().zip(&item).map(|(a, b)| a * b).sum();
        let past: f32 = history.iter().map(|(_, r)| r - 3.0).sum();
        let rating = 3.0 + dot + positive[0] - negative[0] + 0.5 * context[0] + 0.3 * past;
        Self { user, item, positive, negative, context, history, rating }
    }

    fn candidate(&self) -> CandidateInput<'_> {
        CandidateInput {
            item: &self.item,
            positive: Some(&self.positive),
            negative: Some(&self.negative),
            context: &self.context,
        }
    }

    fn with<T>(&self, act: impl FnOnce(ConsumerInput<'_>, CandidateInput<'_>) -> T) -> T {
        let history: Vec<(&[f32], f32)> =
            self.history.iter().map(|(item, rating)| (item.as_slice(), *rating)).collect();
        let consumer = ConsumerInput { user: &self.user, history: &history };
        act(consumer, self.candidate())
    }
}

fn examples(seed: u64, count: usize) -> (RankerExamples, Vec<Example>) {
    let mut random = StdRng::seed_from_u64(seed);
    let all: Vec<Example> = (0..count).map(|_| Example::new(&mut random)).collect();
    let mut table = RankerExamples::new(shape(), HISTORY);
    for example in &all {
        example
            .with(|consumer, candidate| {
                table.push(&consumer, &candidate, example.rating, example.rating > 3.5)
            })
            .unwrap();
    }
    (table, all)
}

fn train(settings: &RankerSettings) -> TrainedRanker {
    TrainedRanker::train(&examples(1, 1500).0, &examples(2, 300).0, settings, &Silent).unwrap()
}

#[test]
fn of_several_starts_the_one_that_validates_best_is_kept() {
    let (training, validation) = (examples(1, 600).0, examples(2, 200).0);
    let best = |start: u64, starts: usize| {
        let mut settings = RankerSettings { starts, ..settings() };
        settings.training.seed = settings.training.seed.wrapping_add(start << 32);
        let trained = TrainedRanker::train(&training, &validation, &settings, &Silent).unwrap();
        trained.report().training.best
    };
    let alone: Vec<f64> = (0..3).map(|start| best(start, 1)).collect();
    let least = alone.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(alone.iter().any(|one| *one > least), "starts differ: {alone:?}");
    assert_eq!(best(0, 3), least, "{alone:?}");
}

/// A ranker trained once for all tests that only look.
fn trained() -> &'static TrainedRanker {
    static TRAINED: OnceLock<TrainedRanker> = OnceLock::new();
    TRAINED.get_or_init(|| train(&settings()))
}

/// The file of a ranker, in a folder that lives as long as the value.
struct Exported {
    _folder: TempDir,
    path: PathBuf,
}

fn export(ranker: &TrainedRanker) -> Exported {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ranker.onnx");
    ranker.export(&path).unwrap();
    Exported { _folder: folder, path }
}

#[test]
fn training_learns_more_than_the_mean() {
    let report = trained().report();
    assert!(report.rmse < 0.75 * report.mean_rmse, "{report:?}");
    assert!(report.auc.unwrap() > 0.75, "{report:?}");
    assert!(report.mae < report.rmse);
}

#[test]
fn candle_tract_and_onnx_runtime_agree() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    let history_items = numbers(5, HISTORY * VECTOR);
    for (rows, present) in [(1, 0), (1, HISTORY), (7, 3), (200, HISTORY), (200, 0)] {
        let user = numbers(6, VECTOR);
        let history: Vec<(&[f32], f32)> = history_items
            .chunks_exact(VECTOR)
            .take(present)
            .zip([1.0, 5.0, 3.0, 4.0, 2.0])
            .collect();
        let consumer = ConsumerInput { user: &user, history: &history };
        let (items, codes, context) =
            (numbers(7, rows * VECTOR), numbers(8, 2 * rows * CODE), numbers(9, rows * 2));
        let (positive, negative) = codes.split_at(rows * CODE);
        let candidates: Vec<CandidateInput<'_>> = (0..rows)
            .map(|row| CandidateInput {
                item: &items[row * VECTOR..][..VECTOR],
                positive: Some(&positive[row * CODE..][..CODE]),
                negative: Some(&negative[row * CODE..][..CODE]),
                context: &context[row * 2..][..2],
            })
            .collect();
        let scores = ranker.score(&consumer, &candidates).unwrap();
        let rating: Vec<f32> = scores.iter().map(|score| score.rating).collect();
        let like: Vec<f32> = scores.iter().map(|score| score.like).collect();

        let mut complete = RankerExamples::new(shape(), HISTORY);
        for candidate in &candidates {
            complete.push(&consumer, candidate, 3.0, false).unwrap();
        }
        let candle = trained().predict(&complete).unwrap();
        assert_close(
            "candle's rating",
            &rating,
            &candle.iter().map(|s| s.rating).collect::<Vec<_>>(),
        );
        assert_close("candle's like", &like, &candle.iter().map(|s| s.like).collect::<Vec<_>>());

        let (mut vectors, mut ratings, mut mask) =
            (vec![0.0; HISTORY * VECTOR], vec![0.0; HISTORY], vec![0.0; HISTORY]);
        for (row, (item, rating)) in history.iter().enumerate() {
            vectors[row * VECTOR..][..VECTOR].copy_from_slice(item);
            (ratings[row], mask[row]) = (*rating, 1.0);
        }
        let users = user.repeat(rows);
        let outputs = both_runtimes(
            &exported.path,
            KIND,
            &[
                Value { shape: &[rows, VECTOR], data: &users },
                Value { shape: &[rows, VECTOR], data: &items },
                Value { shape: &[rows, CODE], data: positive },
                Value { shape: &[rows, CODE], data: negative },
                Value { shape: &[rows, 2], data: &context },
                Value { shape: &[HISTORY, VECTOR], data: &vectors },
                Value { shape: &[HISTORY, 1], data: &ratings },
                Value { shape: &[1, HISTORY], data: &mask },
            ],
        );
        assert_close("the rating of the raw run", &outputs[0], &rating);
        assert_close("the like of the raw run", &outputs[1], &like);
    }
}

#[test]
fn a_ranker_without_context_features_runs() {
    let shape = RankerShape { context: vec![], ..shape() };
    let mut part = RankerExamples::new(shape.clone(), HISTORY);
    for example in examples(1, 60).1 {
        example.with(|consumer, candidate| {
            let candidate = CandidateInput { context: &[], ..candidate };
            part.push(&consumer, &candidate, example.rating, example.rating > 3.5).unwrap();
        });
    }
    let ranker = TrainedRanker::train(&part, &part, &settings(), &Silent).unwrap();
    let exported = export(&ranker);
    let loaded = Ranker::load(&exported.path).unwrap();
    loaded.require(&shape).unwrap();
    examples(3, 1).1[0].with(|consumer, candidate| {
        let candidate = CandidateInput { context: &[], ..candidate };
        let account = loaded.contributions(&consumer, &[candidate]).unwrap()[0];
        assert_eq!(account.rating.context, 0.0);
    });
}

#[test]
fn contributions_sum_to_score_minus_base() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    // Strategies draw a seed; the numbers come from it, as in every other test here.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&(any::<u64>(), 1usize..70), |(seed, count)| {
            let all = examples(seed, count).1;
            all[0].with(|consumer, _| {
                let candidates: Vec<CandidateInput<'_>> =
                    all.iter().map(|example| example.candidate()).collect();
                let scores = ranker.score(&consumer, &candidates).unwrap();
                let accounts = ranker.contributions(&consumer, &candidates).unwrap();
                assert_eq!(accounts.len(), scores.len());
                for (account, score) in accounts.iter().zip(&scores) {
                    assert_close("rating", &[account.score.rating], &[score.rating]);
                    let difference = account.score.rating - account.base.rating;
                    assert_close("shares of the rating", &[account.rating.sum()], &[difference]);
                    let difference = account.score.like - account.base.like;
                    assert_close("shares of the like", &[account.like.sum()], &[difference]);
                    assert_close(
                        "one base for all",
                        &[account.base.rating],
                        &[accounts[0].base.rating],
                    );
                }
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_group_that_is_off_moves_nothing() {
    let groups = InputGroups { positive: false, history: false, ..Default::default() };
    let ranker = train(&RankerSettings { groups, ..settings() });
    let exported = export(&ranker);
    let loaded = Ranker::load(&exported.path).unwrap();
    let (table, all) = examples(4, 20);
    let candle = ranker.predict(&table).unwrap();
    for (example, candle) in all.iter().zip(candle) {
        example.with(|consumer, candidate| {
            let score = loaded.score(&consumer, &[candidate]).unwrap()[0];
            assert_close("candle", &[score.rating, score.like], &[candle.rating, candle.like]);
            let other = numbers(99, CODE);
            let changed = CandidateInput { positive: Some(&other), ..candidate };
            let stranger = ConsumerInput { history: &[], ..consumer };
            assert_eq!(loaded.score(&stranger, &[changed]).unwrap()[0], score);
            let account = loaded.contributions(&consumer, &[candidate]).unwrap()[0];
            assert_eq!((account.rating.positive, account.rating.history), (0.0, 0.0));
        });
    }
}

#[test]
fn a_missing_code_counts_as_the_training_mean() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    let mean = ranker.contract().baseline["negative"].clone();
    examples(5, 1).1[0].with(|consumer, candidate| {
        let missing = CandidateInput { negative: None, ..candidate };
        let filled = CandidateInput { negative: Some(&mean), ..candidate };
        let scores = ranker.score(&consumer, &[missing, filled]).unwrap();
        assert_eq!(scores[0], scores[1]);
        let account = ranker.contributions(&consumer, &[missing]).unwrap()[0];
        assert_eq!(account.rating.negative, 0.0);
    });
}

#[test]
fn only_the_newest_of_a_long_history_count() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    let (items, user, item) = (numbers(1, 9 * VECTOR), numbers(2, VECTOR), numbers(3, VECTOR));
    let history: Vec<(&[f32], f32)> = items.chunks_exact(VECTOR).map(|item| (item, 4.0)).collect();
    let candidate =
        CandidateInput { item: &item, positive: None, negative: None, context: &[0.0, 0.0] };
    let score = |history: &[(&[f32], f32)]| {
        ranker.score(&ConsumerInput { user: &user, history }, &[candidate]).unwrap()[0]
    };
    assert_eq!(score(&history), score(&history[9 - HISTORY..]));
    assert_ne!(score(&history), score(&history[..HISTORY]));
}

#[test]
fn the_same_seed_gives_the_same_ranker() {
    let settings = RankerSettings {
        training: TrainingSettings { epochs: 2, ..settings().training },
        ..settings()
    };
    let (first, second) = (train(&settings), train(&settings));
    let probe = examples(6, 50).0;
    assert_eq!(first.predict(&probe).unwrap(), second.predict(&probe).unwrap());
    assert_eq!(first.fingerprint, second.fingerprint);
}

#[test]
fn bad_input_is_named() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    examples(7, 1).1[0].with(|consumer, candidate| {
        let short = ConsumerInput { user: &consumer.user[1..], ..consumer };
        let error = ranker.score(&short, &[candidate]).unwrap_err().to_string();
        assert_eq!(error, "the user vector has width 7, but needs width 8");
        let broken = [f32::NAN; CODE];
        let broken = CandidateInput { positive: Some(&broken), ..candidate };
        let error = ranker.score(&consumer, &[broken]).unwrap_err().to_string();
        assert!(error.starts_with("the positive code holds NaN"), "{error}");
        assert!(ranker.score(&consumer, &[]).unwrap().is_empty());
    });
    let error = TrainedRanker::train(
        &RankerExamples::new(shape(), HISTORY),
        &examples(1, 3).0,
        &settings(),
        &Silent,
    );
    assert!(matches!(error.unwrap_err(), Error::Empty { .. }));
}

#[test]
fn a_ranker_for_other_data_is_refused() {
    let exported = export(trained());
    let ranker = Ranker::load(&exported.path).unwrap();
    ranker.require(&shape()).unwrap();
    let check = |shape: RankerShape, expected: &str| {
        let error = ranker.require(&shape).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("ranker.onnx"), "{error}");
    };
    check(RankerShape { vector: 9, ..shape() }, "`vector` = 8, but the data has 9");
    check(RankerShape { code: 9, ..shape() }, "`code` = 6, but the data has 9");
    let swapped = vec!["count".to_owned(), "mean".to_owned()];
    check(RankerShape { context: swapped, ..shape() }, "[\"count\", \"mean\"] are given");
}

/// Cancels from the first question on.
struct Impatient;

impl Progress for Impatient {
    fn begin(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _done: u64) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn training_stops_when_asked() {
    let (part, _) = examples(1, 50);
    let error = TrainedRanker::train(&part, &part, &settings(), &Impatient).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}
