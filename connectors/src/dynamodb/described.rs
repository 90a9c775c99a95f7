//! What DynamoDB says of a table: its keys, its indexes, its size and its capacity.

use super::error::{DynamoError, Result};
use super::settings::Dynamo;
use crate::aws::Trouble;
use aws_sdk_dynamodb::types::{
    IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType, TableStatus,
};

/// Type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text,
    Number,
    Bytes,
}

impl KeyKind {
    /// As DynamoDB names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "S",
            Self::Number => "N",
            Self::Bytes => "B",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Text, Self::Number, Self::Bytes].into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub name: String,
    pub kind: KeyKind,
}

/// The partition key, and the sort key where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub partition: Key,
    pub sort: Option<Key>,
}

impl Keys {
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.partition).chain(&self.sort)
    }

    pub fn names(&self) -> Vec<String> {
        self.all().map(|key| key.name.clone()).collect()
    }

    pub fn find(&self, name: &str) -> Option<&Key> {
        self.all().find(|key| key.name == name)
    }
}

/// A secondary index that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub name: String,
    pub keys: Keys,
    pub is_global: bool,
    /// Attributes that it has beside keys. Absent: all.
    pub attributes: Option<Vec<String>>,
    /// Read capacity units a second; 0: paid by the request.
    pub read_units: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Described {
    pub keys: Keys,
    pub indexes: Vec<Index>,
    /// Up to six hours old.
    pub bytes: u64,
    /// Up to six hours old.
    pub items: u64,
    /// Capacity units a second; 0: paid by the request.
    pub read_units: i64,
    pub write_units: i64,
    pub is_active: bool,
}

impl Described {
    /// # Errors
    /// There is no such table, or it has a shape that DynamoDB does not document.
    pub async fn find(dynamo: &Dynamo) -> Result<Self> {
        let send = || async {
            let asked = dynamo.client.describe_table().table_name(dynamo.table()).send().await;
            asked.map_err(|error| Trouble::of(&error))
        };
        let table = dynamo.until_answered(send).await?.table;
        let odd = || DynamoError::Value(format!("{}: its description is not understood", dynamo.settings.server()));
        let table = table.ok_or_else(odd)?;
        let kinds = table.attribute_definitions();
        let kind = |name: &str| {
            let of = kinds.iter().find(|definition| definition.attribute_name == name)?;
            match of.attribute_type {
                ScalarAttributeType::S => Some(KeyKind::Text),
                ScalarAttributeType::N => Some(KeyKind::Number),
                ScalarAttributeType::B => Some(KeyKind::Bytes),
                _ => None,
            }
        };
        let keys = |schema: &[KeySchemaElement]| {
            let of = |key_type: KeyType| {
                let mut names = schema.iter().filter(|element| element.key_type == key_type);
                let name = &names.next()?.attribute_name;
                // An index may have several of each; such an index is not read.
                if names.next().is_some() {
                    return None;
                }
                Some(Key { name: name.clone(), kind: kind(name)? })
            };
            let sort = of(KeyType::Range);
            let count = 1 + usize::from(sort.is_some());
            (schema.len() == count).then_some(Keys { partition: of(KeyType::Hash)?, sort })
        };
        let mut indexes = Vec::new();
        for index in table.global_secondary_indexes() {
            let units = index.provisioned_throughput.as_ref().and_then(|units| units.read_capacity_units).unwrap_or(0);
            let is_active = index.index_status.as_ref().is_none_or(|status| *status == IndexStatus::Active);
            if let (true, Some(name), Some(keys)) = (is_active, &index.index_name, keys(index.key_schema())) {
                let attributes = projected(index.projection.as_ref());
                indexes.push(Index { name: name.clone(), keys, is_global: true, attributes, read_units: units });
            }
        }
        let units = table.provisioned_throughput.as_ref();
        let read_units = units.and_then(|units| units.read_capacity_units).unwrap_or(0);
        for index in table.local_secondary_indexes() {
            if let (Some(name), Some(keys)) = (&index.index_name, keys(index.key_schema())) {
                let attributes = projected(index.projection.as_ref());
                indexes.push(Index { name: name.clone(), keys, is_global: false, attributes, read_units });
            }
        }
        Ok(Self {
            keys: keys(table.key_schema()).ok_or_else(odd)?,
            indexes,
            bytes: table.table_size_bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0),
            items: table.item_count.and_then(|items| items.try_into().ok()).unwrap_or(0),
            read_units,
            write_units: units.and_then(|units| units.write_capacity_units).unwrap_or(0),
            is_active: table
                .table_status
                .is_none_or(|status| matches!(status, TableStatus::Active | TableStatus::Updating)),
        })
    }
}

/// Attributes beside keys. Absent: all.
fn projected(projection: Option<&Projection>) -> Option<Vec<String>> {
    let Some(projection) = projection else { return Some(Vec::new()) };
    match projection.projection_type {
        Some(ProjectionType::All) => None,
        Some(ProjectionType::Include) => Some(projection.non_key_attributes().to_vec()),
        _ => Some(Vec::new()),
    }
}
