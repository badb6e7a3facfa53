//! Rows of an Apache Parquet file.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as ParquetRow};
use parquet::schema::types::{Type, TypePtr};

use super::cell::Cell;
use super::error::Result;
use super::source::{Origin, Row, Rows, Source};

pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    origin: Origin,
    columns: Vec<String>,
    read: u64,
    total: u64,
}

impl ParquetRows {
    pub(super) fn open(source: &Source<'_>, file: File) -> Result<Self> {
        let origin = source.origin();
        let fail = |error: ParquetError| origin.content_error("Parquet", error.to_string());
        let reader = SerializedFileReader::new(file).map_err(fail)?;
        let metadata = reader.metadata().file_metadata();
        let total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema();
        let found: Vec<String> =
            schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        origin.check_columns(&source.columns, &found)?;
        let wanted = schema
            .get_fields()
            .iter()
            .filter(|field| source.columns.iter().any(|name| name == field.name()));
        let fields = wanted
            .map(|field| without_text_types(field))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        let projection =
            Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(fail)?;
        let rows =
            RowIter::from_file_into(Box::new(reader)).project(Some(projection)).map_err(fail)?;
        Ok(Self { rows, origin, columns: source.columns.clone(), read: 0, total })
    }
}

impl Rows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        self.read += 1;
        // Columns are read in step with each other: after a damaged page no row can be trusted.
        let row = row.map_err(|error| {
            self.origin
                .content_error("Parquet", format!("row {} of {}: {error}", self.read, self.total))
        })?;
        Ok(Some(Row { line: self.read, cells: Ok(self.cells(row)) }))
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn total(&self) -> u64 {
        self.total
    }
}

impl ParquetRows {
    fn cells(&self, row: ParquetRow) -> Vec<Cell> {
        let fields = row.into_columns();
        let value = |name: &String| fields.iter().find(|(field, _)| field == name);
        self.columns
            .iter()
            .map(|name| value(name).map_or(Cell::Absent, |(_, field)| cell(field)))
            .collect()
    }
}

/// The same type, but with text as bytes: the row reader gives up on a whole file at the first text
/// that is not UTF-8, while here it costs one row.
fn without_text_types(field: &TypePtr) -> std::result::Result<TypePtr, ParquetError> {
    let information = field.get_basic_info();
    let repetition = information.has_repetition().then(|| information.repetition());
    let id = information.has_id().then(|| information.id());
    if field.is_group() {
        let children = field
            .get_fields()
            .iter()
            .map(without_text_types)
            .collect::<std::result::Result<_, _>>()?;
        let builder = Type::group_type_builder(field.name())
            .with_converted_type(information.converted_type())
            .with_logical_type(information.logical_type_ref().cloned())
            .with_id(id)
            .with_fields(children);
        let builder = match repetition {
            Some(repetition) => builder.with_repetition(repetition),
            None => builder,
        };
        return builder.build().map(Arc::new);
    }
    let is_text = field.get_physical_type() == PhysicalType::BYTE_ARRAY
        && information.converted_type() != ConvertedType::DECIMAL;
    if !is_text {
        return Ok(Arc::clone(field));
    }
    Type::primitive_type_builder(field.name(), PhysicalType::BYTE_ARRAY)
        .with_repetition(repetition.unwrap_or(Repetition::REQUIRED))
        .with_id(id)
        .build()
        .map(Arc::new)
}

fn cell(field: &Field) -> Cell {
    match field {
        Field::Null => Cell::Absent,
        Field::Bool(value) => Cell::Boolean(*value),
        Field::Byte(value) => Cell::Integer((*value).into()),
        Field::Short(value) => Cell::Integer((*value).into()),
        Field::Int(value) => Cell::Integer((*value).into()),
        Field::Long(value) => Cell::Integer((*value).into()),
        Field::UByte(value) => Cell::Integer((*value).into()),
        Field::UShort(value) => Cell::Integer((*value).into()),
        Field::UInt(value) => Cell::Integer((*value).into()),
        Field::ULong(value) => Cell::Integer((*value).into()),
        Field::TimestampMillis(value) => Cell::Time(value.div_euclid(1_000)),
        Field::TimestampMicros(value) => Cell::Time(value.div_euclid(1_000_000)),
        Field::Float16(value) => Cell::Float(value.to_f64()),
        Field::Float(value) => Cell::Float((*value).into()),
        Field::Double(value) => Cell::Float(*value),
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => Cell::from_bytes(bytes.data()),
        Field::ListInternal(list) => Cell::List(list.elements().iter().map(cell).collect()),
        // Dates and decimals have a text form that says what they mean.
        other @ (Field::Date(_) | Field::Decimal(_)) => Cell::Text(other.to_string()),
        Field::TimeMillis(_) | Field::TimeMicros(_) => Cell::Other("a time without a date"),
        Field::Group(_) => Cell::Other("a structure"),
        Field::MapInternal(_) => Cell::Other("a map"),
    }
}
