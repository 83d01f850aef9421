//! Tables of Parquet: DataFusion reads them, what differs between the files of one table is settled here.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use nexa_core::Error as CoreError;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::address::{Address, Place};
use super::failure::failure;
use crate::tables::Records;
use crate::{Error, Result};

/// What Parquet begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// Bytes at the end: the length of the metadata, and the same again.
const END_BYTES: u64 = 8;

/// Opens files as one table, with the columns of all of them: where a file lacks one, it is null.
///
/// # Errors
/// Fails with the file that cannot be read, or whose columns do not go with those of the files before.
pub(super) async fn open(state: &SessionState, addresses: &[Address]) -> Result<Arc<dyn TableProvider>> {
    let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
    let mut merged: Option<Schema> = None;
    for address in addresses {
        let schema = schema_of(state, &format, address).await?;
        merged = Some(match merged {
            None => schema.as_ref().clone(),
            Some(earlier) => merge(earlier, &schema, address)?,
        });
    }
    let urls = addresses
        .iter()
        .map(|address| ListingTableUrl::parse(address.url()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failure)?;
    let options = ListingOptions::new(Arc::new(format)).with_file_extension("");
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(Arc::new(merged.unwrap_or_else(Schema::empty)));
    let table = ListingTable::try_new(config).map_err(failure)?;
    Ok(Arc::new(table))
}

/// Finds out which of some files an error is about that does not say so itself.
pub(super) fn blame(error: Error, addresses: &[Address]) -> Error {
    if !matches!(error, Error::Damaged { .. }) {
        return error;
    }
    if let [only] = addresses {
        return error.at(&only.shown);
    }
    for address in addresses {
        if let Place::File(path) = &address.place
            && let Err(found) =
                Records::open(path).and_then(|mut rows| rows.try_for_each(|row| row.map(drop)))
        {
            return found.into();
        }
    }
    error
}

async fn schema_of(state: &SessionState, format: &ParquetFormat, address: &Address) -> Result<SchemaRef> {
    let (store, meta) = match &address.place {
        Place::Object { store, meta, .. } => (Arc::clone(store), meta.clone()),
        Place::File(path) => {
            let store: Arc<dyn ObjectStore> =
                state.runtime_env().object_store(ObjectStoreUrl::local_filesystem()).map_err(failure)?;
            let size = std::fs::metadata(path).map_err(|e| CoreError::io("read", path, e))?.len();
            if size == 0 {
                return Err(CoreError::malformed(path, "the file is empty, so it is no Parquet").into());
            }
            let meta = store.head(&address.key()).await.map_err(|e| failure(e.into()))?;
            (store, meta)
        }
    };
    check_end(store.as_ref(), &meta).await.map_err(|error| error.at(&address.shown))?;
    let schema = format.infer_schema(state, &store, &[meta]).await;
    schema.map_err(|error| failure(error).at(&address.shown))
}

/// Checks what a file ends with, as the reader of its metadata counts on the length that stands there.
async fn check_end(store: &dyn ObjectStore, meta: &ObjectMeta) -> Result<()> {
    let damaged = |message: &str| Error::Damaged { place: String::new(), message: message.to_owned() };
    let Some(start) = meta.size.checked_sub(END_BYTES).filter(|&start| start >= MAGIC.len() as u64) else {
        return Err(damaged("it is too short for Parquet"));
    };
    let end = store.get_range(&meta.location, start..meta.size).await.map_err(|e| failure(e.into()))?;
    let (length, magic) = end.split_at(end.len().saturating_sub(MAGIC.len()));
    let length = length.try_into().map_or(u64::MAX, |length| u64::from(u32::from_le_bytes(length)));
    if magic != MAGIC || length > start - MAGIC.len() as u64 {
        return Err(damaged("it does not end like Parquet"));
    }
    Ok(())
}

fn merge(earlier: Schema, schema: &Schema, address: &Address) -> Result<Schema> {
    Schema::try_merge([earlier.clone(), schema.clone()]).map_err(|error| {
        let clash = schema.fields().iter().find_map(|field| {
            let before = earlier.field_with_name(field.name()).ok()?;
            let (found, before) = (field.data_type(), before.data_type());
            let is_same = found == before;
            (!is_same)
                .then(|| format!("column `{}` is {found}, but {before} in the files before", field.name()))
        });
        CoreError::malformed(Path::new(&address.shown), clash.unwrap_or_else(|| error.to_string())).into()
    })
}
