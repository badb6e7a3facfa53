//! Tries to recover one consumer from what a seller is told, by differencing: with and without the
//! consumer's explanation, knowing everybody else's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use whyrank_plugin::{
    Codes, Explanation, ExplanationRecord, ItemId, ItemRecord, Provenance, Source, Statistics,
    UserId,
};

use super::InsightsSettings;
use super::publish::{Noise, Publisher};
use super::request::Theme;
use super::sample::{Sample, digest};
use super::telling::{Measured, Telling};
use super::themes::{Side, Written, divided, reasons};

/// Worlds that an attack is tried in.
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
        let InsightsSettings { minimum_consumers, epsilon, .. } = InsightsSettings::default();
        Publisher::Anonymous(Noise::new(minimum_consumers, epsilon, "secret", &data))
    } else {
        Publisher::Whole
    };
    let reasons = reasons(Side::Negative, &sample, own);
    let themes = divided(Side::Negative, &item.title, reasons, 2, &written).unwrap();
    // The consumer under attack moves the mean effect as far as one can.
    let effect = |member: &usize| match &own[themes.reasons[*member].record.unwrap()] {
        record if record.user_external_id.ends_with("attacked") => -1.0,
        _ => -0.1,
    };
    let measured = themes.found.iter().map(|theme| Measured {
        effects: theme.members.iter().map(effect).collect(),
        if_answered: None,
    });
    let measured = measured.collect();
    let telling =
        Telling { item: &item, written: &written, publisher: &publisher, bound: 1.0, periods: 2 };
    telling.themes(&themes, measured)
}

fn holders(themes: &[Theme], word: &str) -> f64 {
    let theme = themes.iter().find(|theme| theme.terms.iter().any(|term| term == word));
    theme.map_or(0.0, |theme| theme.consumers as f64)
}

/// Every number of a JSON value, by where it stands.
fn numbers(value: &Value, place: &str, found: &mut BTreeMap<String, f64>) {
    match value {
        Value::Number(number) => {
            found.insert(place.to_owned(), number.as_f64().unwrap_or_default());
        }
        Value::Array(values) => {
            let places = values.iter().enumerate();
            places.for_each(|(at, value)| numbers(value, &format!("{place}/{at}"), found));
        }
        Value::Object(entries) => {
            entries.iter().for_each(|(key, value)| numbers(value, &format!("{place}/{key}"), found))
        }
        _ => {}
    }
}

/// Every number that is told of the two objections. One that is not told is left out.
fn told_numbers(themes: &[Theme]) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for word in ["expensive", "gloomy"] {
        let holds = |theme: &&Theme| theme.terms.iter().any(|term| term == word);
        if let Some(theme) = themes.iter().find(holds) {
            numbers(&serde_json::to_value(theme).unwrap(), word, &mut found);
        }
    }
    found
}

/// What the consumer's explanation changes in each number, in each world, and which objection the
/// consumer holds there: the second in every other one.
fn changes(hidden: bool) -> Vec<(BTreeMap<String, f64>, bool)> {
    let world = |world: usize| {
        let second = world % 2 == 1;
        let mut without = others(world);
        let mut with = without.clone();
        with.push(record(&format!("{world} attacked"), second, OWN_WORD));
        let before = told_numbers(&told(&mut without, hidden));
        let after = told_numbers(&told(&mut with, hidden));
        // What is told in one of the answers alone tells as well.
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let of =
            |told: &BTreeMap<String, f64>, place: &str| told.get(place).copied().unwrap_or(0.0);
        let grown = |place: &&String| (place.to_string(), of(&after, place) - of(&before, place));
        (all.iter().map(grown).collect(), second)
    };
    (0..WORLDS).map(world).collect()
}

/// How often the growth of one number tells the second objection. Where it does not change, it is guessed.
fn right(changes: &[(BTreeMap<String, f64>, bool)], place: &str) -> f64 {
    let right =
        changes.iter().map(|(grown, second)| match grown.get(place).copied().unwrap_or(0.0) {
            0.0 => 0.5,
            grown => f64::from(u8::from((grown > 0.0) == *second)),
        });
    right.sum::<f64>() / changes.len() as f64
}

/// How often the attacker tells rightly which objection the consumer holds, by the number that told it
/// best in one half of the worlds, in the other half.
fn recovered(hidden: bool) -> (String, f64) {
    let changes = changes(hidden);
    let (known, attacked) = changes.split_at(WORLDS / 2);
    let places: BTreeSet<&String> = changes.iter().flat_map(|(grown, _)| grown.keys()).collect();
    let strength = |place: &str| (right(known, place) - 0.5).abs();
    let best = places.into_iter().max_by(|l, r| strength(l).total_cmp(&strength(r)));
    let best = best.expect("numbers are told").clone();
    let share = right(attacked, &best);
    // A number that shrinks with the second objection tells as well as one that grows.
    let share = if right(known, &best) < 0.5 { 1.0 - share } else { share };
    (best, share)
}

#[test]
fn differencing_tells_an_operator_everything_and_a_seller_nothing() {
    let (place, share) = recovered(false);
    assert_eq!(share, 1.0, "the attack itself does not work: {place}");
    // No test of a number with this epsilon is right more often than this, whatever it does; the rest is
    // the chance of so many worlds.
    let odds = InsightsSettings::default().epsilon.exp();
    let most = odds / (1.0 + odds) + 2.0 * (0.25 / (WORLDS / 2) as f64).sqrt();
    let (place, share) = recovered(true);
    assert!(share < most, "a seller recovers {share} of the consumers by {place}; 0.5 is guessing");
    let counts = changes(true).iter().map(|(grown, _)| grown.len()).max();
    assert!(counts > Some(4), "only {counts:?} numbers are told, so that little was attacked");
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
