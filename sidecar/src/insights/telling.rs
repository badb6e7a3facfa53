//! Themes as they are told: named by their words, counted, and followed through time, with single
//! consumers hidden where the viewer is a seller.

use std::collections::HashSet;

use whyrank_plugin::ItemRecord;

use super::publish::Publisher;
use super::request::{Theme, TrendPeriod, WhatIf};
use super::themes::{
    ENOUGH_WRITTEN, Found, Reason, Side, Themes, Written, contrast, held, title_words,
};
use crate::grouping::{Held, telling_words};

/// Words of a theme.
const WORDS: usize = 3;
/// A theme whose share moved by more than this, from the earlier to the later half of what is written,
/// is rising or falling.
const MOVED: f64 = 0.1;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// What is known of a theme beside its reasons.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// How much the side's reasons move the score of each consumer of the sample who holds it.
    pub(super) effects: Vec<f64>,
    /// What would change if it were answered.
    pub(super) if_answered: Option<WhatIf>,
}

/// How themes are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling<'a> {
    pub(super) item: &'a ItemRecord,
    pub(super) written: &'a Written,
    pub(super) publisher: &'a Publisher,
    /// The greatest change of a score.
    pub(super) bound: f64,
    /// Spans of time of a trend.
    pub(super) periods: usize,
}

impl Telling<'_> {
    /// The themes as they are told, what moves the score most first.
    pub(super) fn themes(self, themes: &Themes, measured: Vec<Measured>) -> Vec<Theme> {
        let Themes { side, reasons, found } = themes;
        let words = self.words(themes);
        let holders = self.publisher.count(&format!("{} all", side.name()), reasons.len());
        let mut told: Vec<(f64, Theme)> = Vec::new();
        for (number, ((theme, measured), terms)) in
            found.iter().zip(measured).zip(words).enumerate()
        {
            let label = format!("{} {number}", side.name());
            let Some(consumers) = self.publisher.count(&label, theme.members.len()) else {
                continue;
            };
            let bound = self.bound;
            let effect =
                self.publisher.mean(&format!("{label} effect"), &measured.effects, -bound, bound);
            let name = if terms.is_empty() {
                format!("reason {} {}", side.name(), number + 1)
            } else {
                terms.join(", ")
            };
            let records: Vec<usize> =
                theme.members.iter().filter_map(|member| reasons[*member].record).collect();
            let (trend, direction) = self.trend(&label, *side, &records);
            let share = consumers as f64 / holders.unwrap_or(reasons.len()).max(1) as f64;
            let weight = consumers as f64
                * match side {
                    Side::Positive => effect.unwrap_or_default(),
                    Side::Negative => -effect.unwrap_or_default(),
                };
            let theme = Theme {
                name,
                terms,
                consumers,
                written: self.publisher.count(&format!("{label} written"), records.len()),
                share: share.min(1.0),
                representative: self.representative(theme, reasons, *side),
                effect,
                trend,
                direction,
                if_answered: measured.if_answered,
            };
            told.push((weight, theme));
        }
        // A stable sort: among equals the largest stays first.
        told.sort_by(|left, right| right.0.total_cmp(&left.0));
        told.into_iter().map(|(_, theme)| theme).collect()
    }

    /// The words of each theme: of its own texts, or of texts near it; told apart from the other
    /// themes' and from what is said on the other side.
    fn words(&self, themes: &Themes) -> Vec<Vec<String>> {
        let Themes { side, reasons, found } = themes;
        let mut groups: Vec<Vec<Held<'_>>> = found
            .iter()
            .map(|theme| {
                let own = theme.members.iter().filter_map(|member| {
                    let record = &self.written.own[reasons[*member].record?];
                    Some((record.user, side.text(record)))
                });
                let near = theme.near.iter().map(|record| (record.user, side.text(record)));
                held(own.chain(near))
            })
            .collect();
        groups.extend(contrast(*side, self.written));
        let title: HashSet<String> = title_words(&self.item.title);
        // Texts about other items are no part of what the publisher knows.
        let near = found.iter().flat_map(|theme| &theme.near).chain(&self.written.others);
        let publisher = self.publisher.over(near.map(|record| side.text(record)));
        telling_words(&groups, found.len(), WORDS, |group, word, holders| {
            let label = format!("{} {group} word {word}", side.name());
            !title.contains(word) && publisher.common(&label, holders)
        })
    }

    /// The written sentence nearest to the centre. It is one consumer's text.
    fn representative(&self, theme: &Found, reasons: &[Reason], side: Side) -> Option<String> {
        if self.publisher.hides() {
            return None;
        }
        let distance = |code: &[f32]| -> f32 {
            theme.centre.iter().zip(code).map(|(centre, value)| (centre - value).powi(2)).sum()
        };
        let own = theme.members.iter().filter_map(|member| {
            let reason = &reasons[*member];
            Some((distance(&reason.code), &self.written.own[reason.record?]))
        });
        let nearest = own.min_by(|left, right| left.0.total_cmp(&right.0));
        nearest.map(|(_, record)| side.text(record).to_owned())
    }

    /// How the theme's share of what is written moved. Spans begin and end with days.
    fn trend(
        &self,
        label: &str,
        side: Side,
        records: &[usize],
    ) -> (Vec<TrendPeriod>, Option<String>) {
        let time = |place: usize| self.written.own[place].provenance.written_at;
        let mut all: Vec<i64> = (0..self.written.own.len()).map(time).collect();
        all.sort_unstable();
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return Default::default();
        };
        if all.len() < ENOUGH_WRITTEN || first.div_euclid(DAY) == last.div_euclid(DAY) {
            return Default::default();
        }
        let middle = all[all.len() / 2];
        let half = |later: bool| {
            let of = |times: &[i64]| times.iter().filter(|t| (**t >= middle) == later).count();
            let own: Vec<i64> = records.iter().map(|place| time(*place)).collect();
            let (own, all) = (of(&own), of(&all));
            let own = self.publisher.count(&format!("{label} {} {later}", side.name()), own)?;
            let all = self.publisher.count(&format!("{} {later} all", side.name()), all)?;
            (all > 0).then(|| own as f64 / all as f64)
        };
        let direction = half(false).zip(half(true)).map(|(earlier, later)| {
            let moved = later - earlier;
            let word = if moved > MOVED {
                "rising"
            } else if moved < -MOVED {
                "falling"
            } else {
                "steady"
            };
            word.to_owned()
        });
        // The days on which single texts were written are not for sellers.
        if self.publisher.hides() {
            return (Vec::new(), direction);
        }
        let (from, until) = (first.div_euclid(DAY), last.div_euclid(DAY) + 1);
        let periods = (self.periods as i64).min(until - from);
        let edge = |number: i64| (from + (until - from) * number / periods) * DAY;
        let trend = (0..periods).map(|number| {
            let (from, until) = (edge(number), edge(number + 1));
            let within = |time: i64| (from..until).contains(&time);
            let own = records.iter().filter(|place| within(time(**place))).count();
            let all = all.iter().filter(|time| within(**time)).count();
            TrendPeriod { from, until, reasons: own, share: own as f64 / all.max(1) as f64 }
        });
        (trend.collect(), direction)
    }
}
