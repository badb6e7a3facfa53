//! Rows of an Apache Parquet file.
//!
//! Read column by column and put together here, and not through the crate's row reader: that one
//! gives up on the whole file at the first text that is not UTF-8, and panics on types it does not know.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use super::cell::Cell;
use super::error::{ImportError, Result};
use super::source::{Origin, Row, Rows, Source};

/// Rows taken from each column at a time.
const BATCH: usize = 1024;

pub(super) struct ParquetRows {
    file: SerializedFileReader<File>,
    origin: Origin,
    columns: Vec<Column>,
    next_group: usize,
    read: u64,
    total: u64,
}

/// A wanted column.
struct Column {
    shape: Shape,
    reader: Option<ColumnReader>,
    cells: VecDeque<Cell>,
}

/// What a column's rows are.
enum Shape {
    /// One value each.
    Value { leaf: usize, description: ColumnDescPtr },
    /// Several values each.
    List { leaf: usize, description: ColumnDescPtr, optional: bool },
    /// Something that no setting has a use for.
    Other(&'static str),
}

impl ParquetRows {
    pub(super) fn open(source: &Source<'_>, file: File) -> Result<Self> {
        let origin = source.origin();
        let file = unpanicked(|| SerializedFileReader::new(file))
            .map_err(|error| origin.content_error("Parquet", error.to_string()))?;
        let metadata = file.metadata().file_metadata();
        let total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema_descr();
        let found: Vec<String> =
            schema.root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        origin.check_columns(&source.columns, &found)?;
        let column = |name: &String| Column {
            shape: Shape::of(name, schema),
            reader: None,
            cells: VecDeque::new(),
        };
        let columns = source.columns.iter().map(column).collect();
        Ok(Self { origin, columns, file, next_group: 0, read: 0, total })
    }

    /// Columns are read in step with each other: after a damaged page no row can be trusted.
    fn damaged(&self, error: &ParquetError) -> ImportError {
        let reason = format!("after row {} of {}: {error}", self.read, self.total);
        self.origin.content_error("Parquet", reason)
    }

    /// Makes sure that each column has a next row; at the end of the file none has.
    fn fill(&mut self) -> Result<(), ParquetError> {
        while self.columns.iter().any(|column| column.cells.is_empty()) {
            let mut empty = self.columns.iter_mut().filter(|column| column.cells.is_empty());
            if let Some(column) = empty.find(|column| column.reader.is_some()) {
                column.fill()?;
            } else if self.columns.iter().any(|column| !column.cells.is_empty()) {
                return Err(ParquetError::General("the columns have different lengths".to_owned()));
            } else if self.next_group < self.file.num_row_groups() {
                self.open_group()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.file.get_row_group(self.next_group)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        self.next_group += 1;
        for column in &mut self.columns {
            match &column.shape {
                Shape::Value { leaf, .. } | Shape::List { leaf, .. } => {
                    column.reader = Some(group.get_column_reader(*leaf)?);
                }
                Shape::Other(what) => {
                    column.cells.extend(std::iter::repeat_n(Cell::Other(what), rows));
                }
            }
        }
        Ok(())
    }
}

/// The crate unwraps what some damaged files leave out; its panic becomes the error that it should be.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // Nothing that a panic may have left half done is used again: the import ends with the error.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(ParquetError::General("the file is damaged: what must be in it is absent".to_owned()))
    })
}

impl Rows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        if self.read == self.total {
            return Ok(None);
        }
        unpanicked(|| self.fill()).map_err(|error| self.damaged(&error))?;
        let cells: Option<Vec<Cell>> =
            self.columns.iter_mut().map(|column| column.cells.pop_front()).collect();
        let cells = cells.ok_or_else(|| {
            self.damaged(&ParquetError::General("the file ends too early".to_owned()))
        })?;
        self.read += 1;
        Ok(Some(Row { line: self.read, cells: Ok(cells) }))
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn total(&self) -> u64 {
        self.total
    }
}

impl Shape {
    fn of(name: &str, schema: &SchemaDescriptor) -> Self {
        let leaves: Vec<usize> = (0..schema.num_columns())
            .filter(|leaf| schema.get_column_root(*leaf).name() == name)
            .collect();
        let [leaf] = leaves[..] else { return Self::Other("a structure") };
        let description = schema.column(leaf);
        let root = schema.get_column_root(leaf);
        match description.max_rep_level() {
            0 if root.is_primitive() => Self::Value { leaf, description },
            0 => Self::Other("a structure"),
            1 => Self::List { leaf, description, optional: root.is_optional() },
            _ => Self::Other("a list of lists"),
        }
    }
}

impl Column {
    /// Appends the next rows; at the end of the row group the reader goes.
    fn fill(&mut self) -> Result<(), ParquetError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let (Shape::Value { description, .. } | Shape::List { description, .. }) = &self.shape
        else {
            return Ok(());
        };
        let shape = &self.shape;
        let cells = match reader {
            ColumnReader::BoolColumnReader(reader) => read(reader, shape, Cell::Boolean),
            ColumnReader::Int32ColumnReader(reader) => read(reader, shape, |value| {
                if description.converted_type() == ConvertedType::UINT_32 {
                    return Cell::Integer(value.cast_unsigned().into());
                }
                described(description, Field::convert_int32, value, Cell::Integer(value.into()))
            }),
            ColumnReader::Int64ColumnReader(reader) => {
                read(reader, shape, |value| match seconds(description, value) {
                    Some(seconds) => Cell::Time(seconds),
                    None if description.converted_type() == ConvertedType::UINT_64 => {
                        Cell::Integer(value.cast_unsigned().into())
                    }
                    None => described(
                        description,
                        Field::convert_int64,
                        value,
                        Cell::Integer(value.into()),
                    ),
                })
            }
            ColumnReader::Int96ColumnReader(reader) => {
                read(reader, shape, |value| Cell::Time(value.to_seconds()))
            }
            ColumnReader::FloatColumnReader(reader) => {
                read(reader, shape, |value| Cell::Float(value.into()))
            }
            ColumnReader::DoubleColumnReader(reader) => read(reader, shape, Cell::Float),
            ColumnReader::ByteArrayColumnReader(reader) => read(reader, shape, |value| {
                let plain = Cell::from_bytes(value.data());
                let convert = |description: &ColumnDescPtr, value| {
                    Field::convert_byte_array(description, value).unwrap_or(Field::Null)
                };
                described(description, convert, value, plain)
            }),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => read(reader, shape, |value| {
                let plain = Cell::from_bytes(value.data());
                let convert = |description: &ColumnDescPtr, value| {
                    Field::convert_byte_array(description, value).unwrap_or(Field::Null)
                };
                described(description, convert, value.into(), plain)
            }),
        }?;
        if cells.is_empty() {
            self.reader = None;
        }
        self.cells.extend(cells);
        Ok(())
    }
}

/// Dates, decimals and halves have a meaning that the crate knows; everything else is `plain`.
fn described<T>(
    description: &ColumnDescPtr,
    convert: impl Fn(&ColumnDescPtr, T) -> Field,
    value: T,
    plain: Cell,
) -> Cell {
    let is_half = description.logical_type_ref() == Some(&LogicalType::Float16);
    match description.converted_type() {
        ConvertedType::DATE | ConvertedType::DECIMAL => {
            Cell::Text(convert(description, value).to_string())
        }
        _ if is_half => match convert(description, value) {
            Field::Float16(value) => Cell::Float(value.to_f64()),
            _ => plain,
        },
        _ => plain,
    }
}

/// Seconds since 1970, if the column holds points in time.
fn seconds(description: &ColumnDescPtr, value: i64) -> Option<i64> {
    let per_second = match (description.logical_type_ref(), description.converted_type()) {
        (Some(LogicalType::Timestamp { unit, .. }), _) => match unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        },
        (_, ConvertedType::TIMESTAMP_MILLIS) => 1_000,
        (_, ConvertedType::TIMESTAMP_MICROS) => 1_000_000,
        _ => return None,
    };
    Some(value.div_euclid(per_second))
}

/// Takes a batch of rows. Definition levels say what is there, repetition levels where a row begins:
/// see the Dremel paper that Parquet follows.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    shape: &Shape,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>, ParquetError> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (_, _, levels) =
        reader.read_records(BATCH, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
    let mut values = values.into_iter().map(cell);
    let (Shape::Value { description, .. } | Shape::List { description, .. }) = shape else {
        return Ok(Vec::new());
    };
    let full = description.max_def_level();
    // A column in which nothing may be absent has no definition levels.
    let definition = |level: usize| definitions.get(level).copied().unwrap_or(full);
    let mut value = |level| {
        if definition(level) == full { values.next() } else { None }.unwrap_or(Cell::Absent)
    };
    let Shape::List { optional, .. } = shape else {
        return Ok((0..levels).map(value).collect());
    };
    // An element that may be null has a level of its own for that, below the full one.
    let has_element = full - i16::from(description.self_type().is_optional());
    let mut rows: Vec<Cell> = Vec::new();
    for level in 0..levels {
        let element = (definition(level) >= has_element).then(|| value(level));
        match (rows.last_mut(), repetitions.get(level)) {
            (Some(Cell::List(list)), Some(1..)) => list.extend(element),
            _ if *optional && definition(level) == 0 => rows.push(Cell::Absent),
            _ => rows.push(Cell::List(element.into_iter().collect())),
        }
    }
    Ok(rows)
}
