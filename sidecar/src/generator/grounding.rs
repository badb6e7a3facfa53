//! What a sentence about a pair must refer to: something that is known of the consumer or the item.

use super::clean::CleanPair;
use super::template;
use super::text::{contains_words, core_title, short_title, stem, words};

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
