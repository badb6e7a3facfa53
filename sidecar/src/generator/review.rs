//! A written explanation held against what its writer was told.

use super::clean::CleanPair;
use super::grounding::Known;
use super::text::{contains_words, core_title, natural_title, words};
use super::validation::{shared_words, without_titles};
use super::{Explanation, Refusal, Validator};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// Why validation would refuse it now.
    pub refusals: Vec<Refusal>,
    /// Whether each side refers to the item, the evidence or the consumer.
    pub grounded: [bool; 2],
    /// Whether each side names an item of the evidence.
    pub names_evidence: [bool; 2],
    /// Share of the words of the shorter side that the other one has too.
    pub shared_words: f64,
    /// The titles that the writer was told, as they are named.
    pub told: Vec<String>,
}

/// A title as texts name it: without year, the article in front.
pub fn title_as_named(title: &str) -> String {
    core_title(&natural_title(title)).to_owned()
}

pub(super) fn review(explanation: &Explanation, pair: &CleanPair, validator: &Validator) -> Review {
    let known = Known::of(pair);
    let sides = [&explanation.positive, &explanation.negative];
    let evidence: Vec<Vec<String>> =
        pair.evidence_items().map(|item| words(core_title(&item.title))).collect();
    let names = |side: &String| {
        let spoken = words(side);
        evidence.iter().any(|title| !title.is_empty() && contains_words(&spoken, title))
    };
    let [positive, negative] = sides.map(|side| words(&without_titles(side, pair)));
    Review {
        refusals: validator.check(explanation, pair),
        grounded: sides.map(|side| known.grounds(side, &words(side))),
        names_evidence: sides.map(names),
        shared_words: shared_words(&positive, &negative),
        told: pair.titles().map(title_as_named).collect(),
    }
}
