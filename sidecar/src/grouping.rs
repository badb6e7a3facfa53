//! Groups of codes that are alike, and the words that set the texts of a group apart from those of the
//! others. The same codes and texts give the same groups and words.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use linfa_clustering::KMeans;
use ndarray_linfa::Array2;

/// Shorter words say little about a reason.
const SHORTEST_WORD: usize = 4;

/// Words like "their" and "again", which name nothing. Prompts and the template are English.
static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| stop_words::get(stop_words::Language::English).iter().copied().collect());

/// Codes that belong together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// Places among the codes, ascending.
    pub(crate) members: Vec<usize>,
    /// The mean of the codes.
    pub(crate) centre: Vec<f32>,
}

/// At most `count` groups, none of them empty, the largest first.
///
/// # Errors
/// When the codes are not all of one width.
pub(crate) fn group(codes: &[Vec<f32>], count: usize) -> Result<Vec<Group>> {
    if codes.is_empty() || count == 0 {
        return Ok(Vec::new());
    }
    let width = codes.first().map_or(0, Vec::len);
    let values: Vec<f64> = codes.iter().flatten().map(|value| f64::from(*value)).collect();
    let table = Array2::from_shape_vec((codes.len(), width), values)
        .context("the codes are not all of one width")?;
    // `params` starts from a fixed seed.
    let model =
        KMeans::params(count.min(codes.len())).n_runs(3).fit(&DatasetBase::from(table.clone()))?;
    let labels = model.predict(&table);
    let mut groups: Vec<Group> = model
        .centroids()
        .rows()
        .into_iter()
        .enumerate()
        .map(|(label, centre)| Group {
            members: (0..codes.len()).filter(|place| labels[*place] == label).collect(),
            centre: centre.iter().map(|value| *value as f32).collect(),
        })
        .filter(|group| !group.members.is_empty())
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    Ok(groups)
}

/// The group whose centre lies nearest to a code.
pub(crate) fn nearest(groups: &[Group], code: &[f32]) -> Option<usize> {
    let distance = |centre: &[f32]| -> f32 {
        centre.iter().zip(code).map(|(centre, value)| (centre - value).powi(2)).sum()
    };
    (0..groups.len())
        .min_by(|l, r| distance(&groups[*l].centre).total_cmp(&distance(&groups[*r].centre)))
}

/// A text and who holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) holder: usize,
    pub(crate) text: &'a str,
}

/// For each of the first `named` groups of texts the words that more of its texts have than those of
/// any other group, the most telling first. `allowed` is asked about each word with the number of the
/// group and of the holders in it.
pub(crate) fn telling_words(
    groups: &[Vec<Held<'_>>],
    named: usize,
    most: usize,
    allowed: impl Fn(usize, &str, usize) -> bool,
) -> Vec<Vec<String>> {
    let shares: Vec<BTreeMap<String, (f64, usize)>> = groups.iter().map(|g| shares(g)).collect();
    let words = |group: usize| {
        let elsewhere = |word: &String| {
            let others = shares.iter().enumerate().filter(|(place, _)| *place != group);
            others.filter_map(|(_, share)| share.get(word)).map(|(s, _)| *s).fold(0.0, f64::max)
        };
        let mut words: Vec<(f64, f64, &String)> = shares[group]
            .iter()
            .filter(|(word, (_, holders))| allowed(group, word, *holders))
            .map(|(word, (share, _))| (share - elsewhere(word), *share, word))
            .filter(|(more, _, _)| *more > 0.0 || groups.len() == 1)
            .collect();
        // The word itself decides last.
        words.sort_by(|l, r| {
            r.0.total_cmp(&l.0).then(r.1.total_cmp(&l.1)).then_with(|| l.2.cmp(r.2))
        });
        words.into_iter().take(most).map(|(_, _, word)| word.clone()).collect()
    };
    (0..named.min(groups.len())).map(words).collect()
}

/// The share of texts that have each word, and how many hold them.
fn shares(texts: &[Held<'_>]) -> BTreeMap<String, (f64, usize)> {
    let mut found: BTreeMap<String, (f64, BTreeSet<usize>)> = BTreeMap::new();
    for held in texts {
        let words: BTreeSet<String> = held
            .text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= SHORTEST_WORD)
            .map(str::to_lowercase)
            .filter(|word| !COMMON.contains(word.as_str()))
            .collect();
        for word in words {
            let (share, holders) = found.entry(word).or_default();
            *share += 1.0 / texts.len() as f64;
            holders.insert(held.holder);
        }
    }
    found.into_iter().map(|(word, (share, holders))| (word, (share, holders.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held<'a>(texts: &[&'a str]) -> Vec<Held<'a>> {
        texts.iter().enumerate().map(|(holder, text)| Held { holder, text }).collect()
    }

    #[test]
    fn codes_that_lie_apart_are_told_apart_the_same_way_each_time() {
        let code = |place: usize| {
            let side = if place.is_multiple_of(3) { 1.0 } else { -1.0 };
            vec![side + place as f32 * 1e-3, 0.0, side]
        };
        let codes: Vec<Vec<f32>> = (0..30).map(code).collect();
        let groups = group(&codes, 2).unwrap();
        assert_eq!(groups.iter().map(|g| g.members.len()).collect::<Vec<_>>(), [20, 10]);
        assert!(groups[1].members.iter().all(|place| place.is_multiple_of(3)));
        assert!((groups[1].centre[2] - 1.0).abs() < 1e-5);
        assert_eq!(groups, group(&codes, 2).unwrap());
        assert_eq!(nearest(&groups, &[1.0, 0.0, 1.0]), Some(1));
        assert!(group(&[], 2).unwrap().is_empty());
    }

    #[test]
    fn a_group_is_told_by_the_words_that_set_it_apart() {
        let groups = [
            held(&["you like Space battles", "you like space travel"]),
            held(&["you like quiet drama", "you like drama"]),
        ];
        let words = telling_words(&groups, 2, 3, |_, _, _| true);
        assert_eq!(words[0][0], "space");
        assert_eq!(words[1][0], "drama");
        assert!(words.iter().flatten().all(|word| word != "like"), "{words:?}");
    }

    #[test]
    fn a_word_of_too_few_holders_is_not_told() {
        let mut texts = held(&["gloomy ending", "gloomy plot", "gloomy plot"]);
        texts[2].holder = 1;
        let words = telling_words(&[texts, held(&["bright"])], 1, 5, |_, _, n| n >= 2);
        assert_eq!(words, [["gloomy"]]);
    }
}
