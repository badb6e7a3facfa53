//! Writes both sides from the evidence alone, without a language model: always available, always valid.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clean::CleanPair;
use super::context::EvidenceItem;
use super::error::GeneratorError;
use super::text::{short_title, stem, words};
use super::validation::{denies, is_suspicious};
use super::{
    Delta, Explanation, Generation, GenerationOptions, Generator, GeneratorIdentity, Prompt, Side,
    Usage,
};

/// The name of its kind in identities and in the provenance of what it wrote.
pub const TEMPLATE: &str = "template";

/// The generator that needs no model.
#[derive(Debug, Clone)]
pub struct TemplateGenerator {
    identity: GeneratorIdentity,
}

impl Default for TemplateGenerator {
    fn default() -> Self {
        Self {
            identity: GeneratorIdentity {
                generator: TEMPLATE.to_string(),
                model: "template".to_string(),
                version: "1".to_string(),
            },
        }
    }
}

#[async_trait]
impl Generator for TemplateGenerator {
    fn identity(&self) -> &GeneratorIdentity {
        &self.identity
    }

    async fn generate(
        &self,
        prompt: &Prompt<'_>,
        _options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError> {
        let Explanation { positive, negative } = explain(prompt.pair);
        let text = match prompt.side {
            Side::Both => format!("WHY: {positive}\nWHY NOT: {negative}"),
            Side::Positive => format!("WHY: {positive}"),
            Side::Negative => format!("WHY NOT: {negative}"),
        };
        if cancel.is_cancelled() {
            return Err(GeneratorError::Cancelled);
        }
        if let Some(deltas) = deltas {
            let sent = deltas.send(Delta::Text(text.clone())).await;
            sent.map_err(|_| GeneratorError::Cancelled)?;
        }
        Ok(Generation { text, truncated: false, openings: Vec::new(), usage: Usage::default() })
    }
}

/// Both sides from what evidence there is.
pub(crate) fn explain(pair: &CleanPair) -> Explanation {
    Explanation { positive: positive(pair), negative: negative(pair) }
}

/// Whether there is anything about the pair that a sentence can refer to.
pub(crate) fn has_material(pair: &CleanPair) -> bool {
    pair.evidence_items().next().is_some()
        || !attributes(&pair.item.attributes).is_empty()
        || consumer_value(pair).is_some()
}

fn positive(pair: &CleanPair) -> String {
    let title = name(&pair.item.title);
    let liked = &pair.evidence.liked;
    let own = attributes(&pair.item.attributes);
    match (liked.first(), own.as_slice()) {
        (Some(first), _) => {
            let shared = shared_attribute(pair, first);
            let second = liked
                .get(1)
                .filter(|other| shared.is_some() && shared_attribute(pair, other) == shared);
            match (shared, second) {
                (Some(shared), Some(second)) => format!(
                    "You liked {} and {}, and {title} shares their {shared} side.",
                    name(&first.title),
                    name(&second.title)
                ),
                (Some(shared), None) => {
                    format!(
                        "You liked {}, and {title} shares its {shared} side.",
                        name(&first.title)
                    )
                }
                (None, _) if first.similarity > 0.0 => format!(
                    "Of all that you rated well, {} comes closest to {title}.",
                    name(&first.title)
                ),
                // Without vectors nothing is known to be near.
                (None, _) => format!(
                    "You rated {} well, and {title} may be worth a try too.",
                    name(&first.title)
                ),
            }
        }
        (None, [first, second, ..]) => {
            format!(
                "It brings together {first} and {second}, a mix that may be worth a try for you."
            )
        }
        (None, [only]) => format!("It is {only}, a kind that may be worth a try for you."),
        (None, []) => match (pair.evidence.disliked.first(), consumer_value(pair)) {
            (Some(first), _) => {
                format!(
                    "Even if {} was not for you, {title} is another matter and may surprise you.",
                    name(&first.title)
                )
            }
            (None, Some((label, value))) => {
                format!(
                    "So far only your {label} {value} is known, and {title} may well be to your taste."
                )
            }
            (None, None) => format!(
                "Your ratings so far neither speak for nor rule out {title}, so it could surprise you."
            ),
        },
    }
}

fn negative(pair: &CleanPair) -> String {
    let title = name(&pair.item.title);
    let own = attributes(&pair.item.attributes);
    if let Some(first) = pair.evidence.disliked.first() {
        return match shared_attribute(pair, first) {
            Some(shared) => {
                format!("The {shared} part may let you down again, as {} did.", name(&first.title))
            }
            None if first.similarity > 0.0 => format!(
                "Among what you rated badly, {} is nearest to this one.",
                name(&first.title)
            ),
            None => {
                format!("You rated {} badly, and this one may disappoint too.", name(&first.title))
            }
        };
    }
    // An attribute that none of the liked items has is the best guess at what may not please.
    let unfamiliar = own.iter().find(|attribute| {
        !pair
            .evidence
            .liked
            .iter()
            .any(|item| item.attributes.iter().any(|other| same(other, attribute)))
    });
    if let (Some(unfamiliar), Some(liked)) = (unfamiliar, pair.evidence.liked.first()) {
        return format!(
            "Unlike {}, this one is also {unfamiliar}, which may not be to your taste.",
            name(&liked.title)
        );
    }
    if let Some(liked) = pair.evidence.liked.first() {
        return format!("After {} it may feel like more of the same.", name(&liked.title));
    }
    match (own.first(), consumer_value(pair)) {
        (Some(first), _) => {
            format!("Whether {first} suits you cannot be told from your few ratings.")
        }
        (None, Some((label, value))) => {
            format!(
                "Little besides the {label} {value} is known about your taste, so this may miss it."
            )
        }
        (None, None) => {
            format!("Too little is known about your taste, and {title} may well miss it.")
        }
    }
}

fn name(title: &str) -> &str {
    short_title(title)
}

/// The attribute of the candidate that the other item has too, fit for a sentence.
fn shared_attribute(pair: &CleanPair, other: &EvidenceItem) -> Option<String> {
    attributes(&pair.item.attributes)
        .into_iter()
        .find(|attribute| other.attributes.iter().any(|theirs| same(theirs, attribute)))
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Attributes that a sentence may repeat: short and of plain words, so that none can carry a demand.
fn attributes(attributes: &[String]) -> Vec<String> {
    attributes
        .iter()
        .filter(|attribute| is_plain(attribute))
        .map(|attribute| attribute.to_lowercase())
        .collect()
}

fn consumer_value(pair: &CleanPair) -> Option<(String, String)> {
    let plain = |text: &str| is_plain(text).then(|| text.to_lowercase());
    pair.consumer
        .attributes
        .iter()
        .filter(|(_, value)| {
            words(value).iter().map(|word| stem(word)).collect::<String>().chars().count() >= 3
        })
        .filter(|(label, value)| is_harmless(&words(&format!("{label} {value}"))))
        .find_map(|(label, value)| Some((plain(label)?, plain(value)?)))
}

fn is_plain(text: &str) -> bool {
    let parts = words(text);
    let plain = |character: char| character.is_alphanumeric() || " -'&".contains(character);
    (1..=2).contains(&parts.len())
        && text.chars().count() <= 24
        && text.chars().all(plain)
        && is_harmless(&parts)
}

fn is_harmless(spoken: &[String]) -> bool {
    !is_suspicious(spoken) && !denies(spoken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{CleaningSettings, PairContext};

    #[test]
    fn sentences_vary_with_the_evidence() {
        fn check(
            liked: &[(&str, &str)],
            disliked: &[(&str, &str)],
            own: &[&str],
            expected: (&str, &str),
        ) {
            let items = |list: &[(&str, &str)]| -> Vec<EvidenceItem> {
                list.iter()
                    .map(|(title, attribute)| EvidenceItem {
                        title: title.to_string(),
                        attributes: vec![attribute.to_string()],
                        ..EvidenceItem::default()
                    })
                    .collect()
            };
            let mut pair = PairContext::default();
            pair.item.title = "Alien".into();
            pair.item.attributes = own.iter().map(|attribute| attribute.to_string()).collect();
            pair.evidence.liked = items(liked);
            pair.evidence.disliked = items(disliked);
            let written = explain(&CleanPair::new(&pair, &CleaningSettings::default()));
            assert_eq!((written.positive.as_str(), written.negative.as_str()), expected);
        }
        check(
            &[("Aliens", "Sci-Fi"), ("Dune", "Sci-Fi")],
            &[("Saw", "Horror")],
            &["Horror", "Sci-Fi"],
            (
                "You liked Aliens and Dune, and Alien shares their sci-fi side.",
                "The horror part may let you down again, as Saw did.",
            ),
        );
        check(
            &[("Aliens", "Sci-Fi")],
            &[],
            &["Horror", "Sci-Fi"],
            (
                "You liked Aliens, and Alien shares its sci-fi side.",
                "Unlike Aliens, this one is also horror, which may not be to your taste.",
            ),
        );
        check(
            &[],
            &[],
            &["Horror"],
            (
                "It is horror, a kind that may be worth a try for you.",
                "Whether horror suits you cannot be told from your few ratings.",
            ),
        );
        check(
            &[],
            &[],
            &[],
            (
                "Your ratings so far neither speak for nor rule out Alien, so it could surprise you.",
                "Too little is known about your taste, and Alien may well miss it.",
            ),
        );
    }
}
