//! The commands of the server: `serve` and `migrate`.

use anyhow::Context as _;

use crate::config::{self, DatabaseUrl, Settings};
use crate::store::postgres::PostgresStore;
use crate::{server, telemetry};

pub(super) async fn serve(settings: Settings) -> anyhow::Result<()> {
    server::survive_hangup()?;
    let _log = telemetry::init(settings.log_format, &settings.log)?;
    for name in
        config::unknown_variables(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))
    {
        tracing::warn!(name, "there is no such setting; is it misspelled?");
    }
    let mut stop = Box::pin(server::stop_signal().context("signals can't be handled")?);
    let server = tokio::select! {
        server = server::Server::start(settings) => server?,
        () = &mut stop => return Ok(()),
    };
    server.run_until(stop).await
}

pub(super) async fn apply_migrations(settings: Settings) -> anyhow::Result<()> {
    let _log = telemetry::init(settings.log_format, &settings.log)?;
    let DatabaseUrl::Postgres(url) = &settings.database else {
        anyhow::bail!("migrate is for PostgreSQL; an SQLite file is migrated when the server opens it");
    };
    let store = PostgresStore::connect(url.expose(), 1, settings.ttl.into())
        .await
        .context("PostgreSQL can't be reached")?;
    let versions = store.migrate().await?;
    tracing::info!(applied = ?versions, database = %settings.database, "the database is up to date");
    Ok(())
}
