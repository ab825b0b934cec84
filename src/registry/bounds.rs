//! No call to the database lasts for ever.

use std::time::Duration;

use super::RegistryError;

/// Waits for a call to the database for so long. The database ends its statements by itself; a connection that nobody
/// answers on does not end.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(RegistryError::Interrupted))
}
