//! Themes: reasons of one side that are alike, with the words that tell them, and how they came and
//! went. Written reasons make the groups where there are enough of them; predicted ones join the nearest.
//! Groups that the same word tells are one theme: sentences differ by more than by what they object to.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use whyrank_plugin::records::{NEGATIVE_VECTOR, POSITIVE_VECTOR};
use whyrank_plugin::{Codes, ExplanationRecord, ItemRecord, Search, Selection, UserId};

use super::Insights;
use super::sample::Sample;
use crate::grouping::{self, Group, Held, nearest, telling_words};
use crate::http::ApiError;

/// A theme has at least this many reasons on average; few reasons make fewer themes.
const SMALLEST: usize = 5;
/// Written reasons from which on they alone make the groups.
pub(super) const ENOUGH_WRITTEN: usize = 2 * SMALLEST;
/// Texts near a centre that a theme with too few of its own is named by.
const NEAR_TEXTS: usize = 100;

/// One of the two sides of an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Positive,
    Negative,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Positive => "for",
            Self::Negative => "against",
        }
    }

    fn vector(self) -> &'static str {
        match self {
            Self::Positive => POSITIVE_VECTOR,
            Self::Negative => NEGATIVE_VECTOR,
        }
    }

    pub(super) fn text(self, record: &ExplanationRecord) -> &str {
        match self {
            Self::Positive => &record.explanation.positive,
            Self::Negative => &record.explanation.negative,
        }
    }

    fn code(self, codes: &Codes) -> &[f32] {
        match self {
            Self::Positive => &codes.positive,
            Self::Negative => &codes.negative,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Positive => Self::Negative,
            Self::Negative => Self::Positive,
        }
    }
}

/// One consumer's reason on one side.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    pub(super) code: Vec<f32>,
    /// Among what is written about the item.
    pub(super) record: Option<usize>,
    /// Among the sample's places.
    pub(super) placed: Option<usize>,
}

/// Reasons that are alike.
#[derive(Debug)]
pub(super) struct Found {
    /// Among the side's reasons.
    pub(super) members: Vec<usize>,
    pub(super) centre: Vec<f32>,
    /// The word that tells it best.
    pub(super) leading: Option<String>,
    /// Texts about other items near the centre, where too little is written about this one.
    pub(super) near: Vec<ExplanationRecord>,
}

/// What is written, about the item and about others.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// About the item, by consumer.
    pub(super) own: Vec<ExplanationRecord>,
    /// About other items: what is said anyway, whichever the item.
    pub(super) others: Vec<ExplanationRecord>,
}

/// The themes of one side before anything of them is told.
#[derive(Debug)]
pub(super) struct Themes {
    pub(super) side: Side,
    pub(super) reasons: Vec<Reason>,
    pub(super) found: Vec<Found>,
}

/// The reasons of one side, one a consumer, in the order of their ids.
pub(super) fn reasons(side: Side, sample: &Sample, written: &[ExplanationRecord]) -> Vec<Reason> {
    let code = |codes: &Codes| side.code(codes).to_vec();
    let mut reasons: BTreeMap<UserId, Reason> = BTreeMap::new();
    for (place, placed) in sample.placed.iter().enumerate() {
        let Some(codes) = &placed.codes else { continue };
        let reason = Reason { code: code(codes), record: None, placed: Some(place) };
        reasons.insert(placed.user, reason);
    }
    // A code of another width is of another encoder and does not lie among these.
    let width = reasons.values().next().map(|reason| reason.code.len());
    for (place, record) in written.iter().enumerate() {
        let Some(codes) = &record.codes else { continue };
        let code = code(codes);
        if width.is_some_and(|width| width != code.len()) {
            continue;
        }
        let known = reasons.get(&record.user).and_then(|reason| reason.placed);
        reasons.insert(record.user, Reason { code, record: Some(place), placed: known });
    }
    reasons.into_values().collect()
}

/// Groups reasons: places of members and the centre of each group.
fn divide(reasons: &[Reason], wanted: usize) -> Result<Vec<Group>, ApiError> {
    let written: Vec<usize> =
        (0..reasons.len()).filter(|place| reasons[*place].record.is_some()).collect();
    let leading: Vec<usize> =
        if written.len() >= ENOUGH_WRITTEN { written } else { (0..reasons.len()).collect() };
    let codes: Vec<Vec<f32>> = leading.iter().map(|place| reasons[*place].code.clone()).collect();
    // Twice as many as are wanted, because some will prove to be one theme.
    let count = (codes.len() / SMALLEST).clamp(1, 2 * wanted.max(1));
    let mut groups = grouping::group(&codes, count)?;
    for group in &mut groups {
        group.members = group.members.iter().map(|member| leading[*member]).collect();
    }
    let led: HashSet<usize> = leading.into_iter().collect();
    for place in (0..reasons.len()).filter(|place| !led.contains(place)) {
        if let Some(group) = nearest(&groups, &reasons[place].code) {
            groups[group].members.push(place);
        }
    }
    groups.iter_mut().for_each(|group| group.members.sort_unstable());
    Ok(groups)
}

/// The themes of these reasons.
pub(super) fn divided(
    side: Side,
    title: &str,
    reasons: Vec<Reason>,
    wanted: usize,
    written: &Written,
) -> Result<Themes, ApiError> {
    let titles = title_words(title);
    let leading = |group: &Group| -> Option<String> {
        let own = group.members.iter().filter_map(|member| {
            let record = &written.own[reasons[*member].record?];
            Some((record.user, side.text(record)))
        });
        let mut groups = vec![held(own)];
        groups.extend(contrast(side, written));
        let words = telling_words(&groups, 1, 1, |_, word, _| !titles.contains(word));
        words.into_iter().flatten().next()
    };
    let mut found: Vec<(Option<String>, Group)> = Vec::new();
    for group in divide(&reasons, wanted)? {
        let word = leading(&group);
        let same = found.iter_mut().find(|(known, _)| word.is_some() && *known == word);
        match same {
            Some((_, known)) => merge(known, group),
            None => found.push((word, group)),
        }
    }
    found.sort_by_key(|(_, group)| std::cmp::Reverse(group.members.len()));
    // What is one too many joins what lies nearest.
    while found.len() > wanted.max(1) {
        let Some((_, last)) = found.pop() else { break };
        let groups: Vec<Group> = found.iter().map(|(_, group)| group.clone()).collect();
        if let Some(place) = nearest(&groups, &last.centre) {
            merge(&mut found[place].1, last);
        }
    }
    let found = found.into_iter().map(|(leading, Group { mut members, centre })| {
        members.sort_unstable();
        Found { members, centre, leading, near: Vec::new() }
    });
    let found = found.collect();
    Ok(Themes { side, reasons, found })
}

/// What the words of a theme are told apart from: the other side, and the same side of other items.
pub(super) fn contrast(side: Side, written: &Written) -> [Vec<Held<'_>>; 2] {
    let other = side.other();
    [
        held(written.own.iter().map(|record| (record.user, other.text(record)))),
        held(written.others.iter().map(|record| (record.user, side.text(record)))),
    ]
}

/// Puts one group into another.
fn merge(into: &mut Group, group: Group) {
    let (own, other) = (into.members.len() as f32, group.members.len() as f32);
    for (centre, value) in into.centre.iter_mut().zip(&group.centre) {
        *centre = (*centre * own + value * other) / (own + other);
    }
    into.members.extend(group.members);
}

impl Themes {
    /// What others object in place of a theme, at most so many: of the item where there is something,
    /// else of other items. Nothing of it names the theme's own word.
    pub(super) fn answers(&self, theme: usize, most: usize, written: &Written) -> Vec<Vec<f32>> {
        let leading = self.found[theme].leading.as_deref();
        let free = |record: &ExplanationRecord| {
            leading.is_none_or(|word| !has_word(self.side.text(record), word))
        };
        let others = self.found.iter().enumerate().filter(|(number, _)| *number != theme);
        let mut places: Vec<usize> =
            others.flat_map(|(_, other)| other.members.iter().copied()).collect();
        places.sort_unstable();
        let own = places.into_iter().map(|place| &self.reasons[place]);
        let own: Vec<&[f32]> = own
            .filter(|reason| reason.record.is_none_or(|record| free(&written.own[record])))
            .map(|reason| reason.code.as_slice())
            .collect();
        let width = self.reasons.first().map_or(0, |reason| reason.code.len());
        let elsewhere: Vec<&[f32]> = written
            .others
            .iter()
            .filter(|record| free(record))
            .filter_map(|record| Some(self.side.code(record.codes.as_ref()?)))
            .filter(|code| code.len() == width)
            .collect();
        // Where both speak, each has half.
        let of_own =
            most.min(own.len()).min(most.div_ceil(2).max(most.saturating_sub(elsewhere.len())));
        let mut answers = spread(&own, of_own);
        answers.extend(spread(&elsewhere, most - of_own));
        answers
    }
}

/// So many of the codes, evenly.
fn spread(codes: &[&[f32]], most: usize) -> Vec<Vec<f32>> {
    let count = most.min(codes.len());
    (0..count).map(|number| codes[number * codes.len() / count].to_vec()).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|found| found.to_lowercase() == word)
}

impl Insights {
    /// Finds the themes of one side.
    pub(super) async fn themes(
        &self,
        side: Side,
        item: &ItemRecord,
        sample: &Sample,
        written: &Arc<Written>,
        wanted: usize,
    ) -> Result<Themes, ApiError> {
        let reasons = reasons(side, sample, &written.own);
        let (title, texts) = (item.title.clone(), written.clone());
        // Pure computation, which must not hold up other requests.
        let divide = move || divided(side, &title, reasons, wanted, &texts);
        let mut themes =
            tokio::task::spawn_blocking(divide).await.map_err(anyhow::Error::from)??;
        for theme in &mut themes.found {
            let of = |place: &&usize| themes.reasons[**place].record.is_some();
            if theme.members.iter().filter(of).count() < SMALLEST {
                theme.near = self.near(side, &theme.centre).await?;
            }
        }
        Ok(themes)
    }

    /// What is written nearest to a code, about any item.
    async fn near(&self, side: Side, code: &[f32]) -> Result<Vec<ExplanationRecord>, ApiError> {
        let search = Search {
            selection: Selection::payload(),
            ..Search::new(side.vector(), code.to_vec(), NEAR_TEXTS)
        };
        let collection = &self.storage.settings().explanations;
        let found = self.storage.store().search(collection, search).await?;
        let records = found.into_iter().map(|hit| ExplanationRecord::from_point(hit.point));
        Ok(records.collect::<Result<_, _>>().map_err(anyhow::Error::from)?)
    }
}

/// Texts with their holders numbered.
pub(super) fn held<'a>(texts: impl Iterator<Item = (UserId, &'a str)>) -> Vec<Held<'a>> {
    let mut numbers: BTreeMap<UserId, usize> = BTreeMap::new();
    texts
        .map(|(user, text)| {
            let next = numbers.len();
            Held { holder: *numbers.entry(user).or_insert(next), text }
        })
        .collect()
}

/// The words of a title, which tell nothing about a reason.
pub(super) fn title_words(title: &str) -> HashSet<String> {
    title
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: f32, written: bool) -> Reason {
        Reason { code: vec![code, 0.0], record: written.then_some(0), placed: None }
    }

    #[test]
    fn written_reasons_make_the_groups_and_predicted_ones_join_them() {
        let mut reasons: Vec<Reason> =
            (0..20).map(|n| reason(if n < 12 { 1.0 } else { -1.0 }, true)).collect();
        reasons.extend((0..10).map(|_| reason(-0.3, false)));
        let groups = divide(&reasons, 1).unwrap();
        let sizes: Vec<usize> = groups.iter().map(|group| group.members.len()).collect();
        assert_eq!(sizes, [12, 18]);
        assert!((groups[1].centre[0] + 1.0).abs() < 1e-5, "{groups:?}");
    }

    #[test]
    fn few_reasons_make_one_theme_and_none_make_none() {
        assert_eq!(divide(&[reason(1.0, false)], 4).unwrap().len(), 1);
        assert!(divide(&[], 4).unwrap().is_empty());
    }
}
