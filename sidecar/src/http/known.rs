//! The consumers and items that a request names, read from the store or refused by name.

use whyrank_plugin::{ItemRecord, UserRecord};

use super::{ApiError, Cause};
use crate::storage::Storage;

/// The consumer of this id.
///
/// # Errors
/// When there is none, or the store cannot be read.
pub(crate) async fn known_user(storage: &Storage, given: &str) -> Result<UserRecord, ApiError> {
    let unknown = |message: String| ApiError::new(Cause::UnknownUser, message);
    let id = storage.user_id(given).map_err(|error| unknown(error.to_string()))?;
    let found = storage.user(id).await?;
    found.ok_or_else(|| unknown(format!("consumer {given:?} is not in the store")))
}

/// The item of this id.
///
/// # Errors
/// When there is none, or the store cannot be read.
pub(crate) async fn known_item(storage: &Storage, given: &str) -> Result<ItemRecord, ApiError> {
    let unknown = |message: String| ApiError::new(Cause::UnknownItem, message);
    let id = storage.item_id(given).map_err(|error| unknown(error.to_string()))?;
    let found = storage.items(&[id]).await?.pop().flatten();
    found.ok_or_else(|| unknown(format!("item {given:?} is not in the store")))
}
