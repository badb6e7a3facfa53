//! Tries to recover one consumer from what a seller is told, by differencing: with and without the
//! consumer's explanation, knowing everybody else's.

use whyrank_plugin::{
    Codes, Explanation, ExplanationRecord, ItemId, ItemRecord, Provenance, Source, Statistics,
    UserId,
};

use super::publish::{Noise, Publisher};
use super::request::Theme;
use super::sample::{Sample, digest};
use super::telling::{Measured, Telling};
use super::themes::{Side, Written, divided, reasons};

/// Worlds that the attack is tried in.
const WORLDS: usize = 400;
/// A word that only the consumer under attack has used.
const OWN_WORD: &str = "unmistakable";

fn item() -> ItemRecord {
    ItemRecord {
        id: ItemId::from_external("it"),
        external_id: "it".to_owned(),
        title: "It".to_owned(),
        attributes: Default::default(),
        text: String::new(),
        statistics: Statistics::default(),
        vector: Some(vec![1.0]),
    }
}

/// What a consumer holds against the item: the first or the second of two objections.
fn record(user: &str, second: bool, more: &str) -> ExplanationRecord {
    let (word, code) = if second { ("expensive", -1.0) } else { ("gloomy", 1.0) };
    ExplanationRecord {
        user: UserId::from_external(user),
        item: item().id,
        user_external_id: user.to_owned(),
        item_external_id: "it".to_owned(),
        explanation: Explanation {
            positive: "You like tales".to_owned(),
            negative: format!("Too {word} {more}"),
        },
        provenance: Provenance {
            generator: "template".to_owned(),
            prompt_version: "1".to_owned(),
            profile_version: "1".to_owned(),
            source: Source::Template,
            seed: 1,
            attempts: 1,
            written_at: 0,
        },
        codes: Some(Codes { positive: vec![0.5], negative: vec![code] }),
        code_version: None,
        stale: None,
    }
}

/// Everybody else in a world: so many hold each objection.
fn others(world: usize) -> Vec<ExplanationRecord> {
    let first = 30 + world % 13;
    let second = 30 + world % 11;
    let of = |count: usize, second: bool| {
        (0..count).map(move |n| record(&format!("{world} {second} {n}"), second, "for me"))
    };
    of(first, false).chain(of(second, true)).collect()
}

/// What is told about these explanations.
fn told(own: &mut [ExplanationRecord], hidden: bool) -> Vec<Theme> {
    own.sort_by_key(|record| record.user);
    let written = Written { own: own.to_vec(), others: Vec::new() };
    let sample = Sample { drawn: 0, placed: Vec::new(), users: Vec::new() };
    let item = item();
    let publisher = if hidden {
        let data = digest(item.id, &sample, own);
        Publisher::Anonymous(Noise::new(10, 1.0, "secret", &data))
    } else {
        Publisher::Whole
    };
    let reasons = reasons(Side::Negative, &sample, own);
    let themes = divided(Side::Negative, &item.title, reasons, 2, &written).unwrap();
    let measured = vec![Measured::default(); themes.found.len()];
    let telling =
        Telling { item: &item, written: &written, publisher: &publisher, bound: 1.0, periods: 2 };
    telling.themes(&themes, measured)
}

fn holders(themes: &[Theme], word: &str) -> f64 {
    let theme = themes.iter().find(|theme| theme.terms.iter().any(|term| term == word));
    theme.map_or(0.0, |theme| theme.consumers as f64)
}

/// How often the attacker tells rightly which objection the consumer holds, by what the consumer's
/// explanation changes. Where nothing or both change alike, the attacker guesses.
fn recovered(hidden: bool) -> f64 {
    let right: f64 = (0..WORLDS)
        .map(|world| {
            let second = world % 2 == 1;
            let mut without = others(world);
            let mut with = without.clone();
            with.push(record(&format!("{world} attacked"), second, OWN_WORD));
            let (before, after) = (told(&mut without, hidden), told(&mut with, hidden));
            let grown = |word: &str| holders(&after, word) - holders(&before, word);
            let found = grown("expensive") - grown("gloomy");
            match (found == 0.0, (found > 0.0) == second) {
                (true, _) => 0.5,
                (false, right) => f64::from(u8::from(right)),
            }
        })
        .sum();
    right / WORLDS as f64
}

#[test]
fn differencing_tells_an_operator_everything_and_a_seller_nothing() {
    assert_eq!(recovered(false), 1.0, "the attack itself does not work");
    let share = recovered(true);
    assert!(share < 0.6, "a seller recovers {share} of the consumers; 0.5 is guessing");
}

#[test]
fn what_one_consumer_said_is_never_told() {
    for world in 0..WORLDS {
        let mut with = others(world);
        with.push(record("attacked", world % 2 == 1, OWN_WORD));
        let text = serde_json::to_string(&told(&mut with, true)).unwrap();
        assert!(!text.contains(OWN_WORD) && !text.contains("for me\""), "{text}");
    }
}

#[test]
fn a_theme_that_one_more_consumer_lifts_to_the_minimum_stays_hidden() {
    let mut seen = 0;
    for world in 0..WORLDS {
        let few = (0..9).map(|n| record(&format!("{world} few {n}"), true, "for me"));
        let many = (0..40).map(|n| record(&format!("{world} many {n}"), false, "for me"));
        let mut without: Vec<_> = few.chain(many).collect();
        let mut with = without.clone();
        with.push(record(&format!("{world} attacked"), true, OWN_WORD));
        assert_eq!(holders(&told(&mut without, true), "expensive"), 0.0);
        seen += usize::from(holders(&told(&mut with, true), "expensive") > 0.0);
    }
    assert!(seen <= WORLDS / 100, "one consumer more was seen in {seen} of {WORLDS} worlds");
}
