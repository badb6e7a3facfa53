//! Refuses explanations that a reader should not see, and says why.
//!
//! The checks are cheap and blunt on purpose: what they refuse is written again with another seed,
//! and in the end by the template, which passes them all by construction.

use serde::{Deserialize, Serialize};

use super::Explanation;
use super::clean::{CleanPair, is_address};
use super::grounding::{Known, contradicts};
use super::parse::protected_titles;
use super::text::{contains_words, core_title, first_sentence_end, occurrences, words};

/// Limits of the checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationSettings {
    /// Fewest characters of one side.
    pub shortest: usize,
    /// Most characters of one side.
    pub longest: usize,
    /// Share of words that both sides may have in common, 0 to 1, before they count as alike.
    pub alike: f64,
    /// Words in a row that a side may copy from the item's description.
    pub copied_words: usize,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        Self { shortest: 25, longest: 320, alike: 0.75, copied_words: 8 }
    }
}

/// One side of an explanation, as refusals name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// Why the consumer would like the item.
    Positive,
    /// Why not.
    Negative,
}

/// Why an explanation was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Refusal {
    /// A side was not written.
    Missing {
        /// Which.
        half: Half,
    },
    /// The token limit ended the text.
    Truncated,
    /// A side is shorter than allowed.
    TooShort {
        /// Which.
        half: Half,
    },
    /// A side is longer than allowed.
    TooLong {
        /// Which.
        half: Half,
    },
    /// A side is not one sentence.
    NotOneSentence {
        /// Which.
        half: Half,
    },
    /// A side has markup, a link, a role marker or a control character.
    Markup {
        /// Which.
        half: Half,
    },
    /// A side names nothing that is known of the consumer or the item.
    Ungrounded {
        /// Which.
        half: Half,
    },
    /// A side names, in quotes, a title that is neither evidence nor the item, or one of the worked example.
    UnknownTitle {
        /// Which.
        half: Half,
    },
    /// A side says that the consumer liked what was disliked, or the reverse, or knows the item
    /// already, or compares the item with itself.
    Contradicted {
        /// Which.
        half: Half,
    },
    /// A side follows or repeats an instruction or a demand for praise.
    Instructed {
        /// Which.
        half: Half,
    },
    /// A side copies the item's description.
    Copied {
        /// Which.
        half: Half,
    },
    /// The negative side gives no reason against the item.
    NotNegative,
    /// Both sides say the same.
    SidesAlike,
}

impl Refusal {
    /// The reasons for which texts are refused, as metrics name them.
    pub const REASONS: [&str; 13] = [
        "missing",
        "truncated",
        "too_short",
        "too_long",
        "not_one_sentence",
        "markup",
        "ungrounded",
        "unknown_title",
        "contradicted",
        "instructed",
        "copied",
        "not_negative",
        "sides_alike",
    ];

    /// Its reason, one of [`Refusal::REASONS`].
    pub fn reason(&self) -> &'static str {
        Self::REASONS[match self {
            Self::Missing { .. } => 0,
            Self::Truncated => 1,
            Self::TooShort { .. } => 2,
            Self::TooLong { .. } => 3,
            Self::NotOneSentence { .. } => 4,
            Self::Markup { .. } => 5,
            Self::Ungrounded { .. } => 6,
            Self::UnknownTitle { .. } => 7,
            Self::Contradicted { .. } => 8,
            Self::Instructed { .. } => 9,
            Self::Copied { .. } => 10,
            Self::NotNegative => 11,
            Self::SidesAlike => 12,
        }]
    }
}

/// Phrases that speak about instructions or to the model; no reason about an item needs them.
const INSTRUCTIONS: [&str; 16] = [
    "ignore your",
    "ignore the",
    "ignore all",
    "ignore previous",
    "ignore any",
    "disregard",
    "instruction",
    "system prompt",
    "as an ai",
    "as a language model",
    "language model",
    "praise this",
    "praise the item",
    "rate this",
    "rate it",
    "override",
];

/// Demands and praise that sellers put into descriptions, and that models repeat.
const DEMANDS: [&str; 12] = [
    "must buy",
    "must watch",
    "must see",
    "must have",
    "must read",
    "buy now",
    "buy it now",
    "best ever",
    "ever made",
    "everyone must",
    "everyone should",
    "perfect for everyone",
];

/// Ways to refuse to name a reason against.
const NO_REASON_AGAINST: [&str; 9] = [
    "no reason",
    "no reasons",
    "nothing to dislike",
    "nothing not to like",
    "no downside",
    "no downsides",
    "not applicable",
    "you will love",
    "you didn t dislike",
];

/// Checks explanations.
#[derive(Debug, Clone)]
pub struct Validator {
    settings: ValidationSettings,
    example_titles: Vec<String>,
}

impl Validator {
    /// `example_titles` are titles of the prompt's worked examples, which no answer should name.
    pub fn new(settings: ValidationSettings, example_titles: Vec<String>) -> Self {
        Self { settings, example_titles }
    }

    /// Every reason to refuse `explanation`, none if it is good. Never panics, whatever the text.
    pub fn check(&self, explanation: &Explanation, pair: &CleanPair) -> Vec<Refusal> {
        let known = Known::of(pair);
        let mut refusals = Vec::new();
        for (half, side) in
            [(Half::Positive, &explanation.positive), (Half::Negative, &explanation.negative)]
        {
            self.check_half(half, side, pair, &known, &mut refusals);
        }
        let positive = words(&without_titles(&explanation.positive, pair));
        let negative = words(&without_titles(&explanation.negative, pair));
        if shared_words(&positive, &negative) > self.settings.alike {
            refusals.push(Refusal::SidesAlike);
        }
        if denies(&negative) {
            refusals.push(Refusal::NotNegative);
        }
        refusals
    }

    fn check_half(
        &self,
        half: Half,
        side: &str,
        pair: &CleanPair,
        known: &Known,
        refusals: &mut Vec<Refusal>,
    ) {
        let length = side.chars().count();
        if length < self.settings.shortest {
            refusals.push(Refusal::TooShort { half });
        }
        if length > self.settings.longest {
            // Nothing below is worth running on a text of any size.
            refusals.push(Refusal::TooLong { half });
            return;
        }
        let protected = occurrences(side, &protected_titles(pair));
        if !side[first_sentence_end(side, &protected)..].trim().is_empty() {
            refusals.push(Refusal::NotOneSentence { half });
        }
        let without_titles = without_titles(side, pair);
        if has_markup(&without_titles) {
            refusals.push(Refusal::Markup { half });
        }
        let spoken = words(side);
        let plain = words(&without_titles);
        if !known.grounds(side, &spoken) {
            refusals.push(Refusal::Ungrounded { half });
        }
        if self.names_unknown_title(side, &spoken, pair) {
            refusals.push(Refusal::UnknownTitle { half });
        }
        if contradicts(&spoken, pair) {
            refusals.push(Refusal::Contradicted { half });
        }
        if is_suspicious(&plain) {
            refusals.push(Refusal::Instructed { half });
        }
        let description = words(&pair.item.text);
        let run = self.settings.copied_words.max(1) + 1;
        if plain.windows(run).any(|window| contains_words(&description, window)) {
            refusals.push(Refusal::Copied { half });
        }
    }

    fn names_unknown_title(&self, side: &str, spoken: &[String], pair: &CleanPair) -> bool {
        let known: Vec<String> = pair
            .titles()
            .chain(pair.item.attributes.iter().map(String::as_str))
            .chain(
                pair.evidence_items().flat_map(|item| item.attributes.iter().map(String::as_str)),
            )
            .map(|name| words(name).join(" "))
            .collect();
        let unknown = quoted(side).any(|name| {
            let name = words(name).join(" ");
            // A part of a known title is how models shorten it.
            !name.is_empty() && !known.iter().any(|known| known.contains(&name))
        });
        let of_example = self.example_titles.iter().any(|title| {
            let spelled = core_title(title);
            let title = words(spelled);
            let is_known = pair.titles().any(|known| contains_words(&words(known), &title));
            // The spelling counts too: in lower case, words of an example's title are ordinary words.
            !is_known && side.contains(spelled) && contains_words(spoken, &title)
        });
        unknown || of_example
    }
}

/// Whether words repeat an instruction or a demand.
pub(crate) fn is_suspicious(spoken: &[String]) -> bool {
    let mut phrases = INSTRUCTIONS.iter().chain(&DEMANDS).chain(&["instructions"]);
    phrases.any(|phrase| contains_words(spoken, &words(phrase)))
}

/// Whether words say that nothing speaks against the item.
pub(crate) fn denies(spoken: &[String]) -> bool {
    NO_REASON_AGAINST.iter().any(|phrase| contains_words(spoken, &words(phrase)))
}

/// A side without the titles in it: a title may hold any word.
pub(super) fn without_titles(side: &str, pair: &CleanPair) -> String {
    let mut titles: Vec<&str> = protected_titles(pair);
    titles.sort_by_key(|title| std::cmp::Reverse(title.len()));
    let mut plain = side.to_string();
    for title in titles.into_iter().filter(|title| title.chars().count() >= 2) {
        plain = plain.replace(title, " ◦ ");
    }
    plain
}

fn has_markup(side: &str) -> bool {
    const MARKS: [&str; 10] = ["<", ">", "```", "**", "##", "://", "www.", "[INST", "{{", "|"];
    let lower = side.to_lowercase();
    MARKS.iter().any(|mark| side.contains(mark))
        || ["why:", "why not:", "assistant:", "user:", "system:"]
            .iter()
            .any(|label| lower.contains(label))
        || side.chars().any(|character| character.is_control() || is_hidden(character))
        || lower.split_whitespace().any(is_address)
}

/// Characters that hide text or turn its direction; joiners of letters stay, which scripts need.
fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}'
    )
}

/// What stands between double quotes.
fn quoted(side: &str) -> impl Iterator<Item = &str> {
    side.split(['"', '“', '”']).skip(1).step_by(2)
}

/// Share of the words of the shorter side that the other one has too.
pub(super) fn shared_words(one: &[String], other: &[String]) -> f64 {
    let one: std::collections::HashSet<&String> = one.iter().collect();
    let other: std::collections::HashSet<&String> = other.iter().collect();
    let shortest = one.len().min(other.len());
    if shortest == 0 {
        return 1.0;
    }
    one.intersection(&other).count() as f64 / shortest as f64
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
