//! The types of columns, found by looking at every row.
//!
//! A type only ever widens: null to anything, integer to float, objects to all the keys that were seen. What would
//! need a cast to text is a [`Conflict`]. A Parquet file says its types itself.

use arrow_schema::{DataType, Field, Fields};
use nexa_core::table::Row;
use serde_json::Value;

/// The columns of a table, in the order in which they were first seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Schema {
    columns: Vec<(String, Shape)>,
}

/// What the values of a column have in common.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Nothing but nulls so far.
    Null,
    Bool,
    /// Signed, or unsigned where a value is beyond `i64::MAX`; never both.
    Integer {
        negative: bool,
        beyond_i64: bool,
    },
    Float,
    Text,
    List(Box<Shape>),
    Object(Vec<(String, Shape)>),
}

/// Two types in one column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` holds {found}, but {earlier} before")]
pub(crate) struct Conflict {
    /// The column, with the way inside it: `messages[].content`.
    pub(crate) column: String,
    /// The type that the column had.
    pub(crate) earlier: &'static str,
    /// The type that does not go with it.
    pub(crate) found: &'static str,
}

impl Schema {
    /// Widens the types so that a row fits. On a conflict nothing changes.
    pub(crate) fn observe(&mut self, row: &Row) -> Result<(), Conflict> {
        if fields_hold(&self.columns, row) {
            return Ok(());
        }
        let mut widened = self.columns.clone();
        widen_fields(&mut widened, row, "")?;
        self.columns = widened;
        Ok(())
    }

    /// The schema of a table whose types are known; what is read from it can be written again with the same types.
    pub(super) fn of_arrow(schema: &arrow_schema::Schema) -> Self {
        Self { columns: shapes(schema.fields()) }
    }

    /// Widens the types so that all rows fit that another schema has seen.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), Conflict> {
        merge_fields(&mut self.columns, other.columns, "")
    }

    /// The schema in Arrow's words; every column may be null.
    pub(crate) fn to_arrow(&self) -> arrow_schema::Schema {
        arrow_schema::Schema::new(arrow_fields(&self.columns))
    }

    /// Checks that Parquet can hold every column.
    ///
    /// # Errors
    /// Fails with the column when one holds only empty objects, for which Parquet has no type.
    pub(crate) fn check_storable(&self) -> Result<(), String> {
        match empty_object(&self.columns, "") {
            None => Ok(()),
            Some(path) => Err(format!(
                "column `{path}` holds only empty objects, which Parquet cannot store; remove it, or write JSONL"
            )),
        }
    }
}

impl Shape {
    fn of(value: &Value, path: &str) -> Result<Self, Conflict> {
        let mut shape = Self::Null;
        shape.widen(value, path)?;
        Ok(shape)
    }

    /// Whether a value fits as it is; the common case, decided without allocating.
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Self::Bool, Value::Bool(_))
            | (Self::Text, Value::String(_))
            | (Self::Float, Value::Number(_)) => true,
            (Self::Integer { negative, beyond_i64 }, Value::Number(number)) => match number.as_i64() {
                Some(integer) => integer >= 0 || *negative,
                None => number.is_u64() && *beyond_i64,
            },
            (Self::List(inner), Value::Array(items)) => items.iter().all(|item| inner.holds(item)),
            (Self::Object(fields), Value::Object(object)) => fields_hold(fields, object),
            _ => false,
        }
    }

    fn widen(&mut self, value: &Value, path: &str) -> Result<(), Conflict> {
        match (&mut *self, value) {
            (_, Value::Null) | (Self::Float, Value::Number(_)) => {}
            (Self::Bool, Value::Bool(_)) | (Self::Text, Value::String(_)) => {}
            (Self::List(inner), Value::Array(items)) => {
                let path = format!("{path}[]");
                for item in items {
                    inner.widen(item, &path)?;
                }
            }
            (Self::Object(fields), Value::Object(object)) => widen_fields(fields, object, path)?,
            (Self::Integer { negative, beyond_i64 }, Value::Number(number)) => {
                if number.is_f64() {
                    *self = Self::Float;
                    return Ok(());
                }
                let below_zero = number.as_i64().is_some_and(|integer| integer < 0);
                *negative |= below_zero;
                *beyond_i64 |= !number.is_i64();
                if *negative && *beyond_i64 {
                    let (small, large) = ("an integer below 0", "an integer above 2^63 - 1");
                    let (earlier, found) = if below_zero { (large, small) } else { (small, large) };
                    return Err(Conflict { column: path.to_owned(), earlier, found });
                }
            }
            (Self::Null, _) => {
                *self = match value {
                    Value::Null => Self::Null,
                    Value::Bool(_) => Self::Bool,
                    Value::Number(number) if number.is_f64() => Self::Float,
                    Value::Number(number) => Self::Integer {
                        negative: number.as_i64().is_some_and(|integer| integer < 0),
                        beyond_i64: !number.is_i64(),
                    },
                    Value::String(_) => Self::Text,
                    Value::Array(_) => Self::List(Box::new(Self::Null)),
                    Value::Object(_) => Self::Object(Vec::new()),
                };
                if matches!(value, Value::Array(_) | Value::Object(_)) {
                    self.widen(value, path)?;
                }
            }
            (earlier, _) => {
                let found = Self::of(value, path)?.name();
                return Err(Conflict { column: path.to_owned(), earlier: earlier.name(), found });
            }
        }
        Ok(())
    }

    /// The shape in which values of an Arrow type are read.
    fn of_arrow(data_type: &DataType) -> Self {
        match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool,
            DataType::UInt64 => Self::Integer { negative: false, beyond_i64: true },
            integer if integer.is_integer() => Self::Integer { negative: true, beyond_i64: false },
            float if float.is_floating() => Self::Float,
            DataType::List(item) | DataType::LargeList(item) => {
                Self::List(Box::new(Self::of_arrow(item.data_type())))
            }
            DataType::Struct(fields) => Self::Object(shapes(fields)),
            _ => Self::Text,
        }
    }

    fn merge(&mut self, other: Self, path: &str) -> Result<(), Conflict> {
        match (&mut *self, other) {
            (_, Self::Null)
            | (Self::Bool, Self::Bool)
            | (Self::Text, Self::Text)
            | (Self::Float, Self::Float | Self::Integer { .. }) => {}
            (Self::Null, other) => *self = other,
            (Self::Integer { .. }, Self::Float) => *self = Self::Float,
            (
                Self::Integer { negative, beyond_i64 },
                Self::Integer { negative: below, beyond_i64: beyond },
            ) => {
                *negative |= below;
                *beyond_i64 |= beyond;
                if *negative && *beyond_i64 {
                    let (earlier, found) = ("an integer below 0", "an integer above 2^63 - 1");
                    return Err(Conflict { column: path.to_owned(), earlier, found });
                }
            }
            (Self::List(inner), Self::List(other)) => inner.merge(*other, &format!("{path}[]"))?,
            (Self::Object(fields), Self::Object(other)) => merge_fields(fields, other, path)?,
            (earlier, found) => {
                let (earlier, found) = (earlier.name(), found.name());
                return Err(Conflict { column: path.to_owned(), earlier, found });
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Integer { .. } => "an integer",
            Self::Float => "a float",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    fn to_arrow(&self) -> DataType {
        match self {
            // A column without a value has to be something: text is what it will most likely become.
            Self::Null | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Integer { beyond_i64: true, .. } => DataType::UInt64,
            Self::Integer { .. } => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::List(inner) => DataType::new_list(inner.to_arrow(), true),
            Self::Object(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }

    /// Where an object without any field stands.
    fn empty_object(&self, path: &str) -> Option<String> {
        match self {
            Self::List(inner) => inner.empty_object(&format!("{path}[]")),
            Self::Object(fields) if fields.is_empty() => Some(path.to_owned()),
            Self::Object(fields) => empty_object(fields, path),
            _ => None,
        }
    }
}

fn shapes(fields: &Fields) -> Vec<(String, Shape)> {
    fields.iter().map(|field| (field.name().clone(), Shape::of_arrow(field.data_type()))).collect()
}

fn arrow_fields(fields: &[(String, Shape)]) -> Fields {
    fields.iter().map(|(name, shape)| Field::new(name, shape.to_arrow(), true)).collect()
}

fn empty_object(fields: &[(String, Shape)], path: &str) -> Option<String> {
    fields.iter().find_map(|(name, shape)| shape.empty_object(&below(path, name)))
}

/// Finds a field, first where it stands in a row that has the fields in the same order.
fn position(fields: &[(String, Shape)], name: &str, expected: usize) -> Option<usize> {
    match fields.get(expected) {
        Some((field, _)) if field == name => Some(expected),
        _ => fields.iter().position(|(field, _)| field == name),
    }
}

fn fields_hold(fields: &[(String, Shape)], object: &Row) -> bool {
    object.iter().enumerate().all(|(index, (name, value))| {
        position(fields, name, index).is_some_and(|at| fields[at].1.holds(value))
    })
}

fn widen_fields(fields: &mut Vec<(String, Shape)>, object: &Row, path: &str) -> Result<(), Conflict> {
    for (index, (name, value)) in object.iter().enumerate() {
        let path = below(path, name);
        match position(fields, name, index) {
            Some(at) => fields[at].1.widen(value, &path)?,
            None => fields.push((name.clone(), Shape::of(value, &path)?)),
        }
    }
    Ok(())
}

fn merge_fields(
    fields: &mut Vec<(String, Shape)>,
    others: Vec<(String, Shape)>,
    path: &str,
) -> Result<(), Conflict> {
    for (index, (name, shape)) in others.into_iter().enumerate() {
        match position(fields, &name, index) {
            Some(at) => fields[at].1.merge(shape, &below(path, &name))?,
            None => fields.push((name, shape)),
        }
    }
    Ok(())
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
