//! Small operations on text that cleaning, templates and validation share.

use std::ops::Range;

/// Words before a full stop that do not end a sentence.
const ABBREVIATIONS: [&str; 12] =
    ["mr", "mrs", "ms", "dr", "st", "vs", "jr", "sr", "etc", "vol", "no", "pt"];

/// Lower-case words of letters and digits, in order. Plural `s` is kept.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// A word without its plural ending, so that `comedies` finds `comedy`.
pub(crate) fn stem(word: &str) -> String {
    match word {
        _ if word.chars().count() <= 3 => word.to_string(),
        _ => match word.strip_suffix("ies") {
            Some(start) => format!("{start}y"),
            None => word.strip_suffix('s').unwrap_or(word).to_string(),
        },
    }
}

/// Whether `needle` occurs in `haystack` as a run of words. An empty needle does not.
pub(crate) fn contains_words(haystack: &[String], needle: &[String]) -> bool {
    find_words(haystack, needle).is_some()
}

/// Where `needle` first occurs in `haystack` as a run of words.
pub(crate) fn find_words(haystack: &[String], needle: &[String]) -> Option<Range<usize>> {
    if needle.is_empty() || needle.len() > haystack.len() {
        return None;
    }
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
        .map(|start| start..start + needle.len())
}

/// The text cut to at most `limit` characters, at a word boundary where there is one near.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return text;
    };
    let cut = &text[..end];
    match cut.rfind(' ') {
        Some(space) if space * 2 > end => cut[..space].trim_end(),
        _ => cut.trim_end(),
    }
}

/// A title as short as a sentence has room for.
pub(crate) fn short_title(title: &str) -> &str {
    const CHARACTERS: usize = 60;
    clip(title, CHARACTERS)
}

/// A title without year and other trailing parentheses: how people, and models, name it.
pub(crate) fn core_title(title: &str) -> &str {
    let mut core = title.trim();
    while core.ends_with(')') {
        match core.rfind('(') {
            Some(start) if start > 0 => core = core[..start].trim_end(),
            _ => break,
        }
    }
    core
}

/// Moves a trailing article to the front: `Godfather, The (1972)` is `The Godfather (1972)`.
pub(crate) fn natural_title(title: &str) -> String {
    let core = core_title(title);
    let rest = title[title.find(core).map_or(0, |start| start + core.len())..].trim();
    let Some((name, article)) = core.rsplit_once(", ") else {
        return title.trim().to_string();
    };
    let is_article = ["The", "A", "An", "Les", "La", "Le", "L'", "Il", "Das", "Der", "Die", "El"]
        .contains(&article);
    match (is_article, rest.is_empty()) {
        (false, _) => title.trim().to_string(),
        (true, true) => format!("{article} {name}"),
        (true, false) => format!("{article} {name} {rest}"),
    }
}

/// Ranges of bytes of `text` in which one of `phrases` stands.
pub(crate) fn occurrences(text: &str, phrases: &[&str]) -> Vec<Range<usize>> {
    phrases
        .iter()
        .filter(|phrase| !phrase.is_empty())
        .flat_map(|phrase| {
            text.match_indices(*phrase).map(|(start, found)| start..start + found.len())
        })
        .collect()
}

/// Byte offset behind the first sentence of `text`, ignoring stops inside `protected` ranges.
pub(crate) fn first_sentence_end(text: &str, protected: &[Range<usize>]) -> usize {
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        match character {
            '。' | '！' | '？' | '।' => {}
            '.' | '!' | '?' => {
                let next = text[end..].trim_start_matches(['"', '\'', '”', '’', ')']);
                let ends = next.is_empty() || next.starts_with(char::is_whitespace);
                if !ends || (character == '.' && is_abbreviation(&text[..start])) {
                    continue;
                }
            }
            _ => continue,
        }
        if protected.iter().any(|range| range.contains(&start)) {
            continue;
        }
        let closing = text[end..].len()
            - text[end..].trim_start_matches(['.', '!', '?', '"', '”', '’']).len();
        return end + closing;
    }
    text.len()
}

fn is_abbreviation(before: &str) -> bool {
    let word = before
        .rsplit(|character: char| character.is_whitespace() || character == '.')
        .next()
        .unwrap_or_default();
    // A single capital is an initial, as in "J. Edgar".
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    (is_initial && word != "I") || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_named_as_people_name_them() {
        fn check(title: &str, natural: &str, core: &str) {
            assert_eq!(natural_title(title), natural);
            assert_eq!(core_title(natural), core);
        }
        check("Usual Suspects, The (1995)", "The Usual Suspects (1995)", "The Usual Suspects");
        check("Alien (1979)", "Alien (1979)", "Alien");
        check("(500) Days", "(500) Days", "(500) Days");
        check("(2001)", "(2001)", "(2001)");
        check("Paris, Texas (1984)", "Paris, Texas (1984)", "Paris, Texas");
        check("", "", "");
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        fn check(text: &str, expected: &str) {
            let protected = occurrences(text, &["Help!", "M.A.S.H."]);
            assert_eq!(&text[..first_sentence_end(text, &protected)], expected);
        }
        check("One. Two.", "One.");
        check("You liked Dr. No a lot. Yes.", "You liked Dr. No a lot.");
        check("Rated 4.5 of 5 by you. More", "Rated 4.5 of 5 by you.");
        check("You liked Help! and more. So.", "You liked Help! and more.");
        check("Like \"Alien.\" Then", "Like \"Alien.\"");
        check("好看。真的。", "好看。");
        check("no stop", "no stop");
        check("", "");
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip("äöü äöü", 4), "äöü");
        assert_eq!(clip("日本語日本語", 2), "日本");
        assert_eq!(clip("short", 10), "short");
    }
}
