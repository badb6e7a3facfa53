//! Foresees how people rate an item that nobody has rated: what the LLM has read about it, as one number.
//!
//! It is asked once for an item, not once for a pair, and is told the title alone. What it says is no
//! more than a hint: how far ratings bear it out is learned from the items that have some.

use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use whyrank_plugin::Forecast;

use super::clean::{CleanPair, CleaningSettings, short_hash};
use super::context::{ItemBrief, PairContext};
use super::error::GeneratorError;
use super::meter::UnderWay;
use super::{
    Generation, GenerationOptions, Generator, Opening, Prompt, PromptExample, Side, TEMPLATE, Usage,
};

/// The answer: a number from 1 to 10 with one decimal.
const PATTERN: &str = r"(10\.0|[1-9]\.[0-9])";
/// Tokens of an answer at most: models write a number digit by digit.
const MAX_TOKENS: u32 = 6;

/// What the LLM is asked about items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastSettings {
    /// What it is said to know, such as `the IMDb user rating of every film`: a name that it has read
    /// with numbers beside it brings out more than a description.
    pub subject: String,
    /// Things of this kind that everybody knows, with their ratings from 1 to 10. They show the form and the
    /// spread, so they should be far apart.
    pub examples: Vec<ForecastExample>,
    /// Whether the numbers that the LLM might have said count beside the one it said, by their probability:
    /// ratings bear that out better. Where a server tells no probabilities the number said counts; for one that
    /// refuses the question, this must be false.
    pub probabilities: bool,
}

/// One thing that everybody knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastExample {
    /// Its title.
    pub title: String,
    /// How people rate it, from 1 to 10.
    pub rating: f32,
}

impl Default for ForecastSettings {
    fn default() -> Self {
        let example =
            |(title, rating): (&str, f32)| ForecastExample { title: title.into(), rating };
        let examples = [
            ("The Godfather (film)", 9.2),
            ("Samsung Galaxy Note 7 (phone)", 3.7),
            ("Casio F-91W (watch)", 8.6),
            ("Battlefield Earth (film)", 2.5),
            ("Lonely Planet Italy (book)", 7.2),
            ("McDonald's (restaurant)", 5.9),
        ];
        Self {
            subject: "how people rate things on average".to_owned(),
            examples: examples.map(example).into(),
            probabilities: true,
        }
    }
}

impl ForecastSettings {
    /// What cannot be asked: keys below `generator`, with reasons.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let fits = |one: &ForecastExample| {
            !one.title.trim().is_empty() && (1.0..=10.0).contains(&one.rating)
        };
        let checks = [
            (
                !self.subject.trim().is_empty(),
                "forecast.subject",
                "is empty: say whose ratings are foreseen, and of what",
            ),
            (
                !self.examples.is_empty() && self.examples.iter().all(fits),
                "forecast.examples",
                "needs at least one, each with a title and a rating from 1 to 10",
            ),
        ];
        let faults = checks.into_iter().filter(|(fine, ..)| !fine);
        faults.map(|(_, key, reason)| (key, reason)).collect()
    }
}

/// Asks a generator for forecasts.
pub struct Forecaster {
    generator: Arc<dyn Generator>,
    cleaning: CleaningSettings,
    settings: ForecastSettings,
}

/// What came of one question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foreseen {
    /// None if the answer was no number from 1 to 10.
    pub forecast: Option<Forecast>,
    /// What the answer cost.
    pub usage: Usage,
}

impl Forecaster {
    /// A forecaster around `generator`.
    ///
    /// # Errors
    /// [`GeneratorError::Setting`] for the template, which has read nothing, and for examples that are none.
    pub fn new(
        generator: Arc<dyn Generator>,
        cleaning: CleaningSettings,
        settings: ForecastSettings,
    ) -> Result<Self, GeneratorError> {
        let refuse =
            |key, reason: &str| Err(GeneratorError::Setting { key, reason: reason.to_owned() });
        if generator.identity().generator == TEMPLATE {
            return refuse("kind", "`template` foresees nothing: use `mistralrs` or `openai`");
        }
        if let Some((key, reason)) = settings.faults().into_iter().next() {
            return refuse(key, reason);
        }
        Ok(Self { generator, cleaning, settings })
    }

    /// What a forecast of this title is current by.
    pub fn version(&self, title: &str) -> u32 {
        self.version_of(&self.told(title))
    }

    fn version_of(&self, told: &CleanPair) -> u32 {
        let ForecastSettings { subject, examples, probabilities } = &self.settings;
        let asked = (self.generator.identity(), subject, examples, probabilities, &told.item.title);
        let asked = serde_json::json!(asked);
        let digest = short_hash(asked.to_string().as_bytes(), 8);
        u32::from_str_radix(&digest, 16).expect("eight hexadecimal digits are a number of 32 bits")
    }

    /// Asks about many titles, some at a time; the answers come in the order of the titles.
    pub fn each<'a>(
        &'a self,
        titles: impl IntoIterator<Item = &'a str, IntoIter: 'a>,
        cancel: &'a CancellationToken,
    ) -> impl Stream<Item = Result<Foreseen, GeneratorError>> + 'a {
        let asked = titles.into_iter().map(|title| self.forecast(title, cancel.child_token()));
        stream::iter(asked).buffered(self.generator.parallel())
    }

    /// Asks about one title. The same title gives the same answer.
    ///
    /// # Errors
    /// When the generator fails or `cancel` fires. An answer that is no number is not an error.
    pub async fn forecast(
        &self,
        title: &str,
        cancel: CancellationToken,
    ) -> Result<Foreseen, GeneratorError> {
        let pair = self.told(title);
        let ForecastSettings { subject, examples, .. } = &self.settings;
        let quoted = |title: &str| format!("\"{title}\"");
        let example = |one: &ForecastExample| PromptExample {
            user: quoted(&one.title),
            assistant: format!("{:.1}", one.rating),
        };
        let prompt = Prompt {
            system: format!("You know {subject}, from 1 to 10. Answer with the number alone."),
            examples: examples.iter().map(example).collect(),
            user: quoted(&pair.item.title),
            side: Side::Both,
            pair: &pair,
        };
        let options = GenerationOptions {
            max_tokens: MAX_TOKENS,
            pattern: Some(PATTERN.to_owned()),
            openings: self.settings.probabilities,
            ..GenerationOptions::default()
        };
        let under_way = UnderWay::begin(&prompt, &options);
        let generation = self.generator.generate(&prompt, &options, None, cancel).await;
        under_way.ended(generation.as_ref().map(|generation| generation.usage));
        let generation = generation?;
        let version = self.version_of(&pair);
        let forecast = foreseen(&generation).map(|rating| Forecast { rating, version });
        Ok(Foreseen { forecast, usage: generation.usage })
    }

    /// The title, made harmless as everything is that a seller has written.
    fn told(&self, title: &str) -> CleanPair {
        let item = ItemBrief { title: title.to_owned(), ..ItemBrief::default() };
        CleanPair::new(&PairContext { item, ..PairContext::default() }, &self.cleaning)
    }
}

/// The number that an answer tells.
fn foreseen(generation: &Generation) -> Option<f32> {
    if generation.openings.is_empty() {
        number(&generation.text)
    } else {
        expected(&generation.openings)
    }
}

/// The mean of the numbers that an answer might have begun with, by their probability, to a hundredth: a digit
/// stands for the middle of the numbers that it begins. A single 1 may begin a 10 and tells nothing. None if the
/// answer was more probably none of these numbers.
fn expected(openings: &[Opening]) -> Option<f32> {
    let (mut total, mut sum) = (0.0, 0.0);
    for Opening { text, probability } in openings {
        let number = match text.trim().parse::<u8>() {
            Ok(10) => 10.0,
            Ok(digit @ 2..=9) => f64::from(digit) + 0.5,
            _ => continue,
        };
        total += probability;
        sum += probability * number;
    }
    (total >= 0.5).then(|| ((sum / total * 100.0).round() / 100.0) as f32)
}

/// The number that an answer is, whatever stands behind it.
fn number(answer: &str) -> Option<f32> {
    let answer = answer.trim();
    let end = answer.find(|character: char| !character.is_ascii_digit() && character != '.');
    let number: f32 = answer[..end.unwrap_or(answer.len())].trim_end_matches('.').parse().ok()?;
    (1.0..=10.0).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::TemplateGenerator;

    #[test]
    fn an_answer_is_a_number_from_1_to_10_or_nothing() {
        fn check(answer: &str, expected: Option<f32>) {
            assert_eq!(number(answer), expected, "{answer}");
        }
        check("7.2", Some(7.2));
        check(" 10.0\n", Some(10.0));
        check("8/10", Some(8.0));
        check("6. It is liked", Some(6.0));
        for none in ["", "11", "0.5", "-3", "about 7", "NaN", "1.2.3", "９"] {
            check(none, None);
        }
    }

    #[test]
    fn numbers_that_might_have_been_said_count_by_their_probability() {
        fn check(openings: &[(&str, f64)], expected: Option<f32>) {
            let openings = openings.iter().map(|(text, probability)| Opening {
                text: (*text).into(),
                probability: *probability,
            });
            assert_eq!(super::expected(&openings.collect::<Vec<_>>()), expected);
        }
        check(&[("7", 0.6), ("8", 0.2), (" 4", 0.1), ("1", 0.1)], Some(7.39));
        check(&[("10", 0.5), ("9", 0.5)], Some(9.75));
        check(&[("The", 0.6), ("7", 0.4)], None);
        check(&[("1", 0.9), ("70", 0.1)], None);
        check(&[], None);
    }

    #[test]
    fn what_cannot_foresee_is_refused_with_the_setting() {
        let template = || Arc::new(TemplateGenerator::default());
        let new = |settings| Forecaster::new(template(), CleaningSettings::default(), settings);
        let refused =
            new(ForecastSettings::default()).err().expect("the template has read nothing");
        assert!(refused.to_string().contains("template"), "{refused}");
        let nothing = ForecastSettings {
            subject: " ".into(),
            examples: Vec::new(),
            ..ForecastSettings::default()
        };
        assert_eq!(nothing.faults().len(), 2);
        assert!(ForecastSettings::default().faults().is_empty());
    }
}
