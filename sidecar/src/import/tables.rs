//! Turns the rows of the items and users tables into what they mean, or refuses them with a reason.

use std::collections::HashSet;

use super::cell::Cell;
use super::dataset::{Attribute, ImportedItem, ImportedUser};
use super::report::{Reason, Refusal, TableReport, Warning};
use super::settings::{AttributeColumn, ImportSettings, ItemTable, UserTable};

/// A value, or why its row is refused.
pub(super) type Checked<T> = Result<T, Refusal>;

/// Wanted columns and where each is among a row's cells.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: Vec<String>,
}

impl Columns {
    /// The place of a column; nothing for "", which stands for a column that the table does not have.
    pub(super) fn place(&mut self, name: &str) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        Some(self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }))
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}

/// Collects the kept rows of one table.
pub(super) trait Table {
    /// Takes one row; tells the report whether it was kept.
    fn take(&mut self, line: u64, cells: &[Cell], report: &mut TableReport);
}

/// The ids of a table, to find double ones and references into nothing.
pub(super) type Ids = HashSet<String>;

/// Collects items.
pub(super) struct Items<'a> {
    settings: &'a ItemTable,
    id: Option<usize>,
    title: Option<usize>,
    text: Vec<usize>,
    attributes: Vec<(usize, &'a AttributeColumn)>,
    vector: Option<usize>,
    dimension: Option<usize>,
    pub(super) ids: Ids,
    pub(super) rows: Vec<ImportedItem>,
}

impl<'a> Items<'a> {
    pub(super) fn new(settings: &'a ImportSettings, columns: &mut Columns) -> Self {
        let table = &settings.items;
        Self {
            settings: table,
            id: columns.place(&table.id),
            title: columns.place(&table.title),
            text: table.text.iter().filter_map(|name| columns.place(name)).collect(),
            attributes: attribute_places(&table.attributes, columns),
            vector: columns.place(&table.vector),
            dimension: settings.vector_dimension,
            ids: Ids::new(),
            rows: Vec::new(),
        }
    }

    fn read(&mut self, cells: &[Cell]) -> Checked<ImportedItem> {
        let id = new_id(cells, self.id, &self.settings.id, &self.ids)?;
        let text: Vec<String> = self
            .text
            .iter()
            .map(|place| text_of(cells, Some(*place), "text"))
            .collect::<Checked<_>>()?;
        let item = ImportedItem {
            title: text_of(cells, self.title, "title")?,
            text: text.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(". "),
            attributes: attributes_of(cells, &self.attributes)?,
            vector: vector_of(cells, self.vector, &mut self.dimension)?,
            id,
        };
        Ok(item)
    }
}

impl Table for Items<'_> {
    fn take(&mut self, line: u64, cells: &[Cell], report: &mut TableReport) {
        let mut item = match self.read(cells) {
            Ok(item) => item,
            Err(refusal) => return report.refuse(line, refusal),
        };
        report.kept += 1;
        // A data set without descriptions is no fault of each of its rows.
        if item.text.is_empty() && !self.text.is_empty() {
            report.warn(line, Warning::MissingText, || format!("item `{}` has no text", item.id));
        }
        if item.title.is_empty() {
            item.title.clone_from(&item.id);
            report.warn(line, Warning::MissingTitle, || format!("item `{}` has no title", item.id));
        }
        if self.vector.is_some() && item.vector.is_none() {
            report
                .warn(line, Warning::MissingVector, || format!("item `{}` has no vector", item.id));
        }
        self.ids.insert(item.id.clone());
        self.rows.push(item);
    }
}

/// Collects users.
pub(super) struct Users<'a> {
    settings: &'a UserTable,
    id: Option<usize>,
    attributes: Vec<(usize, &'a AttributeColumn)>,
    vector: Option<usize>,
    dimension: Option<usize>,
    pub(super) ids: Ids,
    pub(super) rows: Vec<ImportedUser>,
}

impl<'a> Users<'a> {
    pub(super) fn new(settings: &'a ImportSettings, columns: &mut Columns) -> Self {
        let table = &settings.users;
        Self {
            settings: table,
            id: columns.place(&table.id),
            attributes: attribute_places(&table.attributes, columns),
            vector: columns.place(&table.vector),
            dimension: settings.vector_dimension,
            ids: Ids::new(),
            rows: Vec::new(),
        }
    }

    fn read(&mut self, cells: &[Cell]) -> Checked<ImportedUser> {
        Ok(ImportedUser {
            id: new_id(cells, self.id, &self.settings.id, &self.ids)?,
            attributes: attributes_of(cells, &self.attributes)?,
            vector: vector_of(cells, self.vector, &mut self.dimension)?,
        })
    }
}

impl Table for Users<'_> {
    fn take(&mut self, line: u64, cells: &[Cell], report: &mut TableReport) {
        let user = match self.read(cells) {
            Ok(user) => user,
            Err(refusal) => return report.refuse(line, refusal),
        };
        report.kept += 1;
        if self.vector.is_some() && user.vector.is_none() {
            report
                .warn(line, Warning::MissingVector, || format!("user `{}` has no vector", user.id));
        }
        self.ids.insert(user.id.clone());
        self.rows.push(user);
    }
}

fn attribute_places<'a>(
    attributes: &'a [AttributeColumn],
    columns: &mut Columns,
) -> Vec<(usize, &'a AttributeColumn)> {
    let place =
        |attribute: &'a AttributeColumn| Some((columns.place(&attribute.column)?, attribute));
    attributes.iter().filter_map(place).collect()
}

fn utf8<'a>(cell: &'a Cell, what: &str) -> Checked<&'a Cell> {
    if cell.has_invalid_utf8() {
        return Err(Refusal::new(
            Reason::InvalidUtf8,
            format!("`{what}` holds bytes that are not UTF-8"),
        ));
    }
    Ok(cell)
}

/// The id in a column that must have one.
pub(super) fn id_of(cells: &[Cell], place: Option<usize>, column: &str) -> Checked<String> {
    let cell = place.map_or(&Cell::Absent, |place| &cells[place]);
    utf8(cell, column)?.text().ok_or_else(|| {
        Refusal::new(
            Reason::MissingId,
            format!("`{column}` holds {}, which is no id", cell.shown()),
        )
    })
}

fn new_id(cells: &[Cell], place: Option<usize>, column: &str, ids: &Ids) -> Checked<String> {
    let id = id_of(cells, place, column)?;
    if ids.contains(&id) {
        return Err(Refusal::new(Reason::Duplicate, format!("an earlier row has the id `{id}`")));
    }
    Ok(id)
}

fn text_of(cells: &[Cell], place: Option<usize>, what: &str) -> Checked<String> {
    let cell = place.map_or(&Cell::Absent, |place| &cells[place]);
    Ok(utf8(cell, what)?.text().unwrap_or_default())
}

fn attributes_of(cells: &[Cell], places: &[(usize, &AttributeColumn)]) -> Checked<Vec<Attribute>> {
    let mut attributes = Vec::with_capacity(places.len());
    for (place, column) in places {
        let values = utf8(&cells[*place], &column.column)?.texts(column.separator.as_deref());
        if !values.is_empty() {
            attributes.push(Attribute { label: column.label.clone(), values });
        }
    }
    Ok(attributes)
}

fn vector_of(
    cells: &[Cell],
    place: Option<usize>,
    dimension: &mut Option<usize>,
) -> Checked<Option<Vec<f32>>> {
    let Some(place) = place else { return Ok(None) };
    let cell = utf8(&cells[place], "vector")?;
    if *cell == Cell::Absent {
        return Ok(None);
    }
    let fail = |message| Err(Refusal::new(Reason::InvalidVector, message));
    let Some(vector) = cell.vector() else {
        return fail(format!("the vector is {}, which is no list of numbers", cell.shown()));
    };
    if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
        return fail(format!("the vector holds {} at position {position}", vector[position]));
    }
    if vector.is_empty() {
        return fail("the vector is empty".to_owned());
    }
    match dimension {
        Some(expected) if *expected != vector.len() => {
            let message = format!("the vector has {} numbers instead of {expected}", vector.len());
            Err(Refusal::new(Reason::VectorDimension, message))
        }
        _ => {
            *dimension = Some(vector.len());
            Ok(Some(vector))
        }
    }
}
