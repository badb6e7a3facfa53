//! Turns the rows of the interactions table into what they mean, or refuses them with a reason.

use std::collections::HashMap;

use super::cell::Cell;
use super::dataset::ImportedInteraction;
use super::report::{Reason, Refusal, TableReport, Warning};
use super::settings::{ImportSettings, UnknownReferences};
use super::tables::{Checked, Columns, Ids, Table, id_of};
use super::time;

/// Collects interactions.
pub(super) struct Interactions<'a> {
    settings: &'a ImportSettings,
    user: Option<usize>,
    item: Option<usize>,
    rating: Option<usize>,
    time: Option<usize>,
    /// The ids of the users and the items table, where there is one.
    known_users: Option<Ids>,
    known_items: Option<Ids>,
    /// Where the kept interaction of a user and an item is.
    places: HashMap<(String, String), usize>,
    lines: Vec<u64>,
    rows: Vec<ImportedInteraction>,
}

impl<'a> Interactions<'a> {
    pub(super) fn new(
        settings: &'a ImportSettings,
        columns: &mut Columns,
        known_users: Option<Ids>,
        known_items: Option<Ids>,
    ) -> Self {
        let table = &settings.interactions;
        Self {
            settings,
            user: columns.place(&table.user),
            item: columns.place(&table.item),
            rating: columns.place(&table.rating),
            time: columns.place(&table.time),
            known_users,
            known_items,
            places: HashMap::new(),
            lines: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The kept interactions by time; those of one time in the order of the file.
    pub(super) fn into_rows(self) -> Vec<ImportedInteraction> {
        let mut rows: Vec<_> = self.lines.into_iter().zip(self.rows).collect();
        rows.sort_by_key(|(line, row)| (row.time, *line));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn read(&self, line: u64, cells: &[Cell]) -> Checked<ImportedInteraction> {
        let table = &self.settings.interactions;
        Ok(ImportedInteraction {
            user: id_of(cells, self.user, &table.user)?,
            item: id_of(cells, self.item, &table.item)?,
            rating: self.rating(cells)?,
            time: self.time(line, cells)?,
        })
    }

    fn rating(&self, cells: &[Cell]) -> Checked<f32> {
        let Some(place) = self.rating else { return Ok(self.settings.implicit_rating) };
        let cell = &cells[place];
        let rating = match cell.number().map(|number| number as f32) {
            Some(rating) if rating.is_finite() => rating,
            _ => {
                let message = format!("the rating is {}, which is no finite number", cell.shown());
                return Err(Refusal::new(Reason::InvalidRating, message));
            }
        };
        let fail = |limit: &str, value: f32| {
            let message = format!("the rating is {rating}, {limit} {value}");
            Err(Refusal::new(Reason::RatingOutOfRange, message))
        };
        match (self.settings.rating_minimum, self.settings.rating_maximum) {
            (Some(minimum), _) if rating < minimum => fail("below", minimum),
            (_, Some(maximum)) if rating > maximum => fail("above", maximum),
            _ => Ok(rating),
        }
    }

    fn time(&self, line: u64, cells: &[Cell]) -> Checked<i64> {
        let Some(place) = self.time else {
            let ordered = self.settings.interactions.rows_in_order;
            return Ok(if ordered { i64::try_from(line).unwrap_or(i64::MAX) } else { 0 });
        };
        time::seconds(&cells[place], self.settings.time_unit).ok_or_else(|| {
            let message = format!("the time is {}, which cannot be read", cells[place].shown());
            Refusal::new(Reason::InvalidTime, message)
        })
    }

    fn check_references(&self, row: &ImportedInteraction) -> Checked<()> {
        if self.settings.unknown_references == UnknownReferences::Keep {
            return Ok(());
        }
        if unknown(&self.known_items, &row.item) {
            return Err(Refusal::new(
                Reason::UnknownItem,
                format!("the items have no `{}`", row.item),
            ));
        }
        if unknown(&self.known_users, &row.user) {
            return Err(Refusal::new(
                Reason::UnknownUser,
                format!("the users have no `{}`", row.user),
            ));
        }
        Ok(())
    }
}

impl Table for Interactions<'_> {
    fn take(&mut self, line: u64, cells: &[Cell], report: &mut TableReport) {
        let read = self.read(line, cells).and_then(|row| self.check_references(&row).map(|()| row));
        let row = match read {
            Ok(row) => row,
            Err(refusal) => return report.refuse(line, refusal),
        };
        let double = |kept: u64, row: &ImportedInteraction| {
            let message = format!(
                "user `{}` and item `{}` have a later row, line {kept}",
                row.user, row.item
            );
            Refusal::new(Reason::Duplicate, message)
        };
        let key = (row.user.clone(), row.item.clone());
        if let Some(&place) = self.places.get(&key) {
            // The later one counts; of two at one time, the one further down.
            let earlier = self.lines[place];
            if row.time >= self.rows[place].time {
                report.refuse(earlier, double(line, &row));
                self.lines[place] = line;
                self.rows[place] = row;
            } else {
                report.refuse(line, double(earlier, &row));
            }
            return;
        }
        report.kept += 1;
        if unknown(&self.known_items, &row.item) {
            report.warn(line, Warning::UnknownItem, || format!("the items have no `{}`", row.item));
        }
        if unknown(&self.known_users, &row.user) {
            report.warn(line, Warning::UnknownUser, || format!("the users have no `{}`", row.user));
        }
        self.places.insert(key, self.rows.len());
        self.lines.push(line);
        self.rows.push(row);
    }
}

fn unknown(ids: &Option<Ids>, id: &str) -> bool {
    ids.as_ref().is_some_and(|ids| !ids.contains(id))
}
