//! Finds both sides in what a language model wrote.

use super::clean::CleanPair;
use super::text::{core_title, first_sentence_end, occurrences, short_title};

/// The sides found; a side that was not written is absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    pub(crate) positive: Option<String>,
    pub(crate) negative: Option<String>,
}

/// Reads `WHY: …` and `WHY NOT: …` in any case and with any decoration before them.
///
/// Each side is the first sentence behind its label: small models often add a second one, and
/// cutting it costs nothing where another attempt costs seconds.
pub(crate) fn sides(text: &str, pair: &CleanPair) -> Sides {
    let mut found = Sides::default();
    for line in text.lines() {
        let Some((negative, rest)) = labelled(line) else { continue };
        let side = if negative { &mut found.negative } else { &mut found.positive };
        if side.is_none() {
            *side = Some(first_sentence(rest, pair)).filter(|sentence| !sentence.is_empty());
        }
    }
    found
}

/// Whether the line is the negative side, and what stands behind its label.
fn labelled(line: &str) -> Option<(bool, &str)> {
    let (label, rest) = line.split_once(':')?;
    let words: Vec<String> = super::text::words(label);
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["why"] => Some((false, rest)),
        ["why", "not"] => Some((true, rest)),
        _ => None,
    }
}

fn first_sentence(text: &str, pair: &CleanPair) -> String {
    let text = text.trim().trim_start_matches("**").trim();
    let protected = occurrences(text, &protected_titles(pair));
    text[..first_sentence_end(text, &protected)].trim().to_string()
}

/// Titles as given, shortened, and without their year: a stop inside one ends no sentence.
pub(crate) fn protected_titles(pair: &CleanPair) -> Vec<&str> {
    pair.titles().flat_map(|title| [title, short_title(title), core_title(title)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{CleaningSettings, PairContext};

    #[test]
    fn sides_are_found_in_what_models_write() {
        fn check(text: &str, positive: Option<&str>, negative: Option<&str>) {
            let mut pair = PairContext::default();
            pair.item.title = "Help! (1965)".into();
            let pair = CleanPair::new(&pair, &CleaningSettings::default());
            let expected = Sides {
                positive: positive.map(str::to_string),
                negative: negative.map(str::to_string),
            };
            assert_eq!(sides(text, &pair), expected, "{text}");
        }
        check("WHY: A.\nWHY NOT: B.", Some("A."), Some("B."));
        check("**Why:** A b. C d.\n- why not: E", Some("A b."), Some("E"));
        check(
            "WHY: Help! is a comedy. Yes.\nWHY NOT: It is old",
            Some("Help! is a comedy."),
            Some("It is old"),
        );
        check("WHY: first one\nWHY: second one", Some("first one"), None);
        check("Sure! Here it is:\nnothing", None, None);
        check("WHY NOT:   \n", None, None);
        check("", None, None);
    }
}
