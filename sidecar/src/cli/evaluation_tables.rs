//! An evaluation as tables for the terminal.

use whyrank_models::metrics::Interval;

use super::output::table;
use super::quality::described;
use crate::evaluation::{EvaluationReport, OrderingSummary, PeerComparison, ShareSummary, Versus};

/// All tables of a report.
pub(super) fn tables(report: &EvaluationReport) -> String {
    let mut text = String::new();
    for share in &report.shares {
        text += &arms(share, report.seeds.len());
        if let Some(ordering) = &share.ordering {
            text += &orders(ordering);
        }
        if let Some(found) = &share.faithfulness {
            text += &format!(
                "deletion test on {} pairs: without the input that the account names first the \
                 like-probability moves by {:.4}, without another by {:.4} (more in {:.0} % of the \
                 pairs; difference {:.4} to {:.4})\n",
                found.pairs,
                found.named_first,
                found.random_other,
                100.0 * found.share,
                found.more.low,
                found.more.high,
            );
        }
        if let Some(quality) = &share.quality {
            text += &described(quality);
        }
    }
    if !report.peers.is_empty() {
        text += &peers(&report.peers);
    }
    if report.programs.len() > 1 {
        text += "The runs were made by different builds of this program: remove the older ones to have them \
                 made again.\n";
    }
    text + "A positive number is better; * marks what is apart from zero (95 %, over seeds with consumers and \
            seeds with items). A gain beats the features and every control by RMSE, or all of them by AUC.\n"
}

fn arms(share: &ShareSummary, seeds: usize) -> String {
    let mut rows = table([
        "arm",
        "RMSE",
        "MAE",
        "AUC",
        "RMSE: features",
        "shuffled",
        "template",
        "profile",
        "AUC: features",
        "gain",
    ]);
    for arm in &share.arms {
        let own = arm.auc.zip(arm.auc_spread);
        rows.add_row([
            arm.arm.name().to_owned(),
            format!("{:.4}", arm.rmse),
            format!("{:.4}", arm.mae),
            own.map_or("-".to_owned(), |(area, spread)| format!("{area:.4} ±{spread:.4}")),
            percent(arm.versus_features.as_ref()),
            percent(arm.versus_shuffled.as_ref()),
            percent(arm.versus_template.as_ref()),
            percent(arm.versus_profile.as_ref()),
            area(arm.versus_features.as_ref()),
            arm.gain.map_or("-", |gain| if gain { "yes" } else { "no" }).to_owned(),
        ]);
    }
    format!(
        "{:.0} % of the training data: {} pairs to learn from, {} test pairs, {} written by an LLM, \
         {seeds} seeds\n{rows}\n",
        100.0 * share.share,
        share.training_pairs,
        share.test_pairs,
        share.written_by_llm,
    )
}

fn orders(ordering: &OrderingSummary) -> String {
    let at = |name: &str| format!("{name}@{}", ordering.cutoff);
    let (ndcg, recall) = (at("NDCG"), at("recall"));
    let mut rows = table(["order", &ndcg, &recall, "NDCG over retrieval", "NDCG over features"]);
    for order in &ordering.orders {
        let over =
            |interval: &Option<Interval>| interval.as_ref().map_or("-".to_owned(), with_interval);
        rows.add_row([
            order.arm.map_or("retrieval", |arm| arm.name()).to_owned(),
            with_interval(&order.ndcg),
            with_interval(&order.recall),
            over(&order.ndcg_over_retrieval),
            over(&order.ndcg_over_features),
        ]);
    }
    format!(
        "Order of retrieved candidates for {} consumers; {:.1} % of what they liked later was \
         found\n{rows}\n",
        ordering.consumers,
        100.0 * ordering.found,
    )
}

fn peers(peers: &[PeerComparison]) -> String {
    let mut rows = table(["others", "package", "RMSE", "MAE", "AUC", "our RMSE", "our AUC", "arm"]);
    for one in peers {
        rows.add_row([
            one.peer.name.clone(),
            one.peer.package.clone(),
            format!("{:.4}", one.peer.rmse),
            format!("{:.4}", one.peer.mae),
            one.peer.auc.map_or("-".to_owned(), |area| format!("{area:.4}")),
            percent(one.against_it.as_ref()),
            area(one.against_it.as_ref()),
            one.arm.name().to_owned(),
        ]);
    }
    format!("Models of others on all of the training data\n{rows}\n")
}

/// How much smaller the RMSE is.
fn percent(versus: Option<&Versus>) -> String {
    versus.map_or("-".to_owned(), |versus| {
        format!("{:+.2} %{}", versus.rmse_better_percent, mark(versus.significant))
    })
}

/// How much greater the AUC is.
fn area(versus: Option<&Versus>) -> String {
    let more = versus.and_then(|versus| versus.auc_more);
    more.map_or("-".to_owned(), |more| format!("{:+.4}{}", more.mean, mark(more.is_apart())))
}

fn mark(apart: bool) -> &'static str {
    if apart { " *" } else { "" }
}

fn with_interval(interval: &Interval) -> String {
    format!("{:.4} [{:.4}, {:.4}]", interval.mean, interval.low, interval.high)
}
