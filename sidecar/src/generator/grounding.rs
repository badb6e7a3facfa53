//! What a sentence about a pair must refer to, and what it must not say against the evidence.

use std::ops::Range;

use super::clean::CleanPair;
use super::template;
use super::text::{contains_words, core_title, find_words, short_title, stem, words};

/// Words too common to tie a sentence to an item's description.
const COMMON_WORDS: [&str; 24] = [
    "about", "after", "again", "around", "because", "before", "being", "could", "every", "first",
    "items", "might", "movie", "other", "story", "their", "there", "these", "thing", "those",
    "which", "while", "would", "films",
];

/// What an explanation of one pair may refer to.
pub(crate) struct Known {
    /// Titles of the evidence that have no letter or digit, so that only their spelling finds them.
    symbols: Vec<String>,
    phrases: Vec<Vec<String>>,
    description: Vec<String>,
    /// Whether there is nothing that an honest sentence could refer to.
    nothing: bool,
}

impl Known {
    pub(crate) fn of(pair: &CleanPair) -> Self {
        let mut phrases: Vec<Vec<String>> = Vec::new();
        let mut symbols = Vec::new();
        for item in pair.evidence_items() {
            if words(core_title(&item.title)).is_empty() {
                symbols.push(short_title(&item.title).to_string());
            }
            phrases.push(stems(short_title(&item.title)));
            phrases.push(stems(core_title(&item.title)));
            // A title before its colon or dash is how people shorten it.
            if let Some((start, _)) =
                item.title.split_once([':', '-']).filter(|(start, _)| start.len() >= 4)
            {
                phrases.push(stems(start));
            }
            phrases.extend(item.attributes.iter().map(|attribute| stems(attribute)));
        }
        phrases.extend(pair.item.attributes.iter().map(|attribute| stems(attribute)));
        let values = pair.consumer.attributes.iter().map(|(_, value)| stems(value));
        phrases.extend(values.filter(|value| value.concat().chars().count() >= 3));
        phrases.retain(|phrase| !phrase.is_empty());
        let mut description: Vec<String> = words(&pair.item.text)
            .into_iter()
            .filter(|word| word.chars().count() >= 5 && !COMMON_WORDS.contains(&word.as_str()))
            .map(|word| stem(&word))
            .collect();
        description.sort();
        description.dedup();
        Self { symbols, phrases, description, nothing: !template::has_material(pair) }
    }

    /// Whether a side refers to anything known; true where nothing usable is known.
    pub(crate) fn grounds(&self, side: &str, spoken: &[String]) -> bool {
        if self.symbols.iter().any(|title| side.contains(title.as_str())) {
            return true;
        }
        let spoken: Vec<String> = spoken.iter().map(|word| stem(word)).collect();
        self.phrases.iter().any(|phrase| contains_words(&spoken, phrase))
            || self.description.iter().filter(|word| spoken.contains(word)).count() >= 2
            || self.nothing
    }
}

fn stems(text: &str) -> Vec<String> {
    words(text).iter().map(|word| stem(word)).collect()
}

/// Whether the words say the opposite of the evidence, or compare the item with itself.
pub(crate) fn contradicts(spoken: &[String], pair: &CleanPair) -> bool {
    const LIKED: [&str; 4] = ["liked", "loved", "enjoyed", "like"];
    const DISLIKED: [&str; 3] = ["disliked", "hated", "dislike"];
    const KNOWN: [&str; 5] = ["liked", "loved", "enjoyed", "disliked", "hated"];
    const COMPARED: [&str; 4] = ["than", "like", "unlike", "as"];
    let liked_what_was_disliked =
        pair.evidence.disliked.iter().any(|item| says(spoken, pair, &item.title, &LIKED));
    let disliked_what_was_liked =
        pair.evidence.liked.iter().any(|item| says(spoken, pair, &item.title, &DISLIKED));
    let compared_with_itself = place_of(spoken, pair, &pair.item.title)
        .and_then(|place| spoken[..place.start].last())
        .is_some_and(|word| COMPARED.contains(&word.as_str()));
    liked_what_was_disliked
        || disliked_what_was_liked
        || compared_with_itself
        || says(spoken, pair, &pair.item.title, &KNOWN)
}

/// Where a title is named. A title within another one, or a remake's, cannot be told apart from it.
fn place_of(spoken: &[String], pair: &CleanPair, whole: &str) -> Option<Range<usize>> {
    let title = words(core_title(whole));
    let ambiguous =
        pair.titles().any(|other| other != whole && contains_words(&words(other), &title));
    if ambiguous { None } else { find_words(spoken, &title) }
}

/// Whether `you` and one of the verbs are said about a title: `you liked X`, or `X, which you liked`.
fn says(spoken: &[String], pair: &CleanPair, title: &str, verbs: &[&str]) -> bool {
    let Some(place) = place_of(spoken, pair, title) else { return false };
    let before = &spoken[place.start.saturating_sub(3)..place.start];
    let after: Vec<&str> = spoken[place.end..].iter().take(5).map(String::as_str).collect();
    let said_before =
        before.iter().rposition(|word| verbs.contains(&word.as_str())).is_some_and(|at| {
            let linked = before[at..].iter().any(|word| word == "but" || word == "and");
            at > 0 && before[at - 1] == "you" && !linked
        });
    // The verb may follow at once, or after "did" and the year of the title.
    let said_after = after
        .windows(3)
        .any(|window| matches!(window, ["which", "you", verb] if verbs.contains(verb)));
    said_before || said_after
}
