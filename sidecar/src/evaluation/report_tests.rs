//! Reports of runs that are made up.

use super::*;
use crate::training::{ArmOutcome, ComparisonOutcome};

/// Two hundred pairs of forty consumers and fifty items.
fn test() -> Vec<ImportedInteraction> {
    let row = |pair: usize| ImportedInteraction {
        user: (pair % 40).to_string(),
        item: (pair % 50).to_string(),
        rating: 3.0,
        time: 0,
    };
    (0..200).map(row).collect()
}

fn report(runs: &[FinishedRun], peers: &[PeerAnswers]) -> EvaluationReport {
    let settings = EvaluationSettings { shares: vec![1.0], ..EvaluationSettings::default() };
    EvaluationReport::new(&settings, "template", "", runs, &test(), peers)
}

fn run(seed: u64, error: impl Fn(Arm, usize) -> f32) -> FinishedRun {
    let actual = vec![3.0_f32; 200];
    let arms = Arm::ALL.map(|arm| {
        let ratings: Vec<f32> = (0..200).map(|pair| 3.0 + error(arm, pair)).collect();
        let rmse = whyrank_models::metrics::rmse(&ratings, &actual);
        ArmOutcome {
            arm,
            rmse,
            mae: 0.0,
            auc: Some(0.5),
            ratings,
            // A quarter of the pairs is liked; every arm says a half.
            likes: vec![0.5; 200],
            faithfulness: None,
        }
    });
    let outcome = ComparisonOutcome {
        training_pairs: 1,
        validation_pairs: 1,
        test_pairs: 200,
        written_by_llm: 0,
        places: (0..200).collect(),
        actual,
        liked: (0..200).map(|pair| pair % 4 == 0).collect(),
        arms: arms.to_vec(),
        ordering: Some(ordering(arms.iter().map(|arm| arm.arm))),
    };
    let program = "one".to_owned();
    FinishedRun { fingerprint: String::new(), program, share: 1.0, seed, outcome, quality: None }
}

/// Ten consumers; every arm but the features gets all right, these half of it.
fn ordering(arms: impl Iterator<Item = Arm>) -> OrderingOutcome {
    let order = |arm: Option<Arm>| {
        let value = if arm.is_none_or(|arm| arm == Arm::Features) { 0.5 } else { 1.0 };
        OrderOutcome { arm, ndcg: vec![value; 10], recall: vec![value; 10] }
    };
    let orders = std::iter::once(None).chain(arms.map(Some)).map(order).collect();
    let consumers = (0..10).map(|id: usize| id.to_string()).collect();
    OrderingOutcome { found: 1.0, consumers, orders }
}

#[test]
fn orders_and_calibration_match_hand_values() {
    let runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.1)).collect();
    let report = report(&runs, &[]);
    let ordering = report.shares[0].ordering.as_ref().expect("asked for");
    assert_eq!((ordering.consumers, ordering.orders.len()), (10, 1 + Arm::ALL.len()));
    let of = |arm| ordering.orders.iter().find(|order| order.arm == arm).expect("there");
    let gain = of(Some(Arm::Both)).ndcg_over_features.expect("not itself");
    assert_eq!((gain.low, gain.high), (0.5, 0.5));
    assert!(of(Some(Arm::Features)).ndcg_over_features.is_none());
    let over = |arm| of(arm).ndcg_over_retrieval.map(|over| over.mean);
    assert_eq!((over(Some(Arm::Both)), over(None)), (Some(0.5), None));
    assert_eq!(of(None).recall.mean, 0.5);
    let both = arm(&report, Arm::Both);
    let bin = CalibrationBin { pairs: 400, predicted: 0.5, liked: 0.25 };
    assert_eq!((&both.calibration, both.calibration_error), (&vec![bin], 0.25));
}

/// Regression: the plot of what is compared with the features was drawn over nothing, without end.
#[test]
fn the_features_alone_make_a_report_and_a_page() {
    let mut runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.1)).collect();
    for run in &mut runs {
        run.outcome.arms.retain(|one| one.arm == Arm::Features);
        let ordering = run.outcome.ordering.as_mut().expect("there");
        ordering.orders.retain(|one| one.arm.is_none_or(|arm| arm == Arm::Features));
    }
    let report = report(&runs, &[]);
    assert_eq!(report.shares[0].arms.len(), 1);
    let page = crate::evaluation::page(&report).expect("a page");
    assert!(page.contains("features") && page.contains("<svg"), "{page}");
}

/// Regression: runs that had lost different pairs were set against each other by position.
#[test]
fn only_pairs_that_all_runs_predicted_are_compared_each_with_itself() {
    let mut runs: Vec<_> = (1..4)
        .map(|seed| run(seed, |arm, pair| if arm == Arm::Both { 0.1 } else { pair as f32 }))
        .collect();
    for (lost, run) in runs.iter_mut().enumerate() {
        let outcome = &mut run.outcome;
        outcome.places.remove(lost);
        outcome.actual.remove(lost);
        outcome.liked.remove(lost);
        for arm in &mut outcome.arms {
            arm.ratings.remove(lost);
            arm.likes.remove(lost);
        }
        let ordering = outcome.ordering.as_mut().expect("there");
        ordering.consumers.remove(lost);
        for order in &mut ordering.orders {
            order.ndcg.remove(lost);
            order.recall.remove(lost);
        }
    }
    let report = report(&runs, &[]);
    assert_eq!(report.shares[0].test_pairs, 197);
    let ordering = report.shares[0].ordering.as_ref().expect("asked for");
    assert_eq!(ordering.consumers, 7);
    let squares: f64 = (3..200).map(|pair| f64::from(pair).powi(2)).sum();
    let features = arm(&report, Arm::Features).rmse;
    assert!((features - (squares / 197.0).sqrt()).abs() < 1e-3, "{features}");
    let versus = arm(&report, Arm::Both).versus_features.as_ref().expect("not itself");
    let less = versus.squared_error_less.mean;
    assert!((less - (squares / 197.0 - 0.01)).abs() < 1.0, "{less}");
}

/// What beats features and the shuffled control but not the plain text is no gain.
#[test]
fn a_gain_beats_every_control() {
    let error = |judged: Arm, best: Arm| {
        move |arm: Arm, _: usize| match arm {
            arm if arm == best => 0.4,
            arm if arm == judged => 0.5,
            _ => 1.0,
        }
    };
    let gain = |judged: Arm, best: Arm| {
        let runs: Vec<_> = (1..3).map(|seed| run(seed, error(judged, best))).collect();
        arm(&report(&runs, &[]), judged).gain
    };
    let of = |best: Arm| gain(Arm::Both, best);
    assert_eq!(of(Arm::Both), Some(true));
    assert_eq!(of(Arm::Profile), Some(false));
    assert_eq!(of(Arm::Template), Some(false));
    assert_eq!(of(Arm::Positive), Some(true), "which is no control");
    assert_eq!(of(Arm::Misplaced), Some(true), "which controls forecasts");
    assert_eq!(gain(Arm::Forecast, Arm::Misplaced), Some(false));
}

fn arm(report: &EvaluationReport, arm: Arm) -> &ArmSummary {
    report.shares[0].arms.iter().find(|one| one.arm == arm).expect("every arm is there")
}

#[test]
fn a_real_difference_is_found_and_noise_is_not() {
    let noise = |pair: usize, by: usize| if (pair * by) % 7 < 3 { 1.0 } else { 0.8 };
    let runs: Vec<_> = (1..3)
        .map(|seed| {
            run(seed, |arm, pair| match arm {
                Arm::Both => 0.5 * noise(pair, 1),
                Arm::Shuffled => noise(pair, 1) + if pair % 2 == 0 { 0.01 } else { -0.01 },
                _ => noise(pair, 1),
            })
        })
        .collect();
    let report = report(&runs, &[]);
    let both = arm(&report, Arm::Both).versus_features.as_ref().expect("not itself");
    assert!(both.significant && (both.rmse_better_percent - 50.0).abs() < 1e-3, "{both:?}");
    let shuffled = arm(&report, Arm::Shuffled).versus_features.as_ref().expect("not itself");
    assert!(!shuffled.significant, "{shuffled:?}");
    assert!(arm(&report, Arm::Features).versus_features.is_none());
}

#[test]
fn the_method_is_set_beside_the_best_of_others_first() {
    let runs: Vec<_> = (1..3).map(|seed| run(seed, |_, _| 0.5)).collect();
    let peer = |name: &str, error: f32| PeerAnswers {
        name: name.to_owned(),
        package: "p 1".to_owned(),
        ratings: vec![vec![3.0 + error; 200]],
    };
    let peers = [peer("worse", 1.0), peer("better", 0.25)];
    let report = report(&runs, &peers);
    let names: Vec<&str> = report.peers.iter().map(|one| one.peer.name.as_str()).collect();
    assert_eq!(names, ["better", "worse"]);
    let percent = |place: usize| {
        let versus = report.peers[place].against_it.as_ref().expect("200 pairs");
        assert!(versus.significant);
        versus.rmse_better_percent
    };
    assert!((percent(0) + 100.0).abs() < 1e-3 && (percent(1) - 50.0).abs() < 1e-3);
}

/// Regression: RMSE in one comparison and AUC in the next passed for a gain.
#[test]
fn a_gain_is_one_by_the_same_measure_throughout() {
    let interval = |low: f64, high: f64| Interval { mean: (low + high) / 2.0, low, high };
    let (above, around, below) = (interval(0.1, 0.3), interval(-0.1, 0.1), interval(-0.3, -0.1));
    let versus = |error: Interval, area: Option<Interval>| Versus {
        rmse_better_percent: 0.0,
        squared_error_less: error,
        significant: error.is_apart(),
        auc_more: area,
    };
    let (by_error, by_area) = (versus(above, Some(around)), versus(around, Some(above)));
    assert!(Versus::are_gains(&[&by_error, &by_error]));
    assert!(Versus::are_gains(&[&by_area, &by_area]));
    assert!(!Versus::are_gains(&[&by_error, &by_area]));
    let traded = versus(below, Some(above));
    assert!(!Versus::are_gains(&[&by_area, &traded]), "better by one, worse by the other");
    assert!(Versus::are_gains(&[&versus(above, None)]));
}
