//! The server: opens the database, listens, serves, and stops without losing a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::config::{DatabaseUrl, Settings};
use crate::http::{self, App, Ended};
use crate::keys::{Keys, Reloading};
use crate::metrics::Metrics;
use crate::registry::health::HealthSettings;
use crate::registry::prober::ProbeSettings;
use crate::registry::{Parts, Registry};
use crate::store::Store;
use crate::store::clock::SystemClock;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

/// How long closing the database may take at the least, if the time for the stop is up.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// A server that listens, and serves once it runs.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    registry: Arc<Registry>,
    router: axum::Router,
    reloading: Option<Reloading>,
    shutdown_timeout: Duration,
}

impl Server {
    /// Binds the address and opens the database.
    ///
    /// # Errors
    /// If the database can't be served, the address can't be bound, or the file of API keys is wrong.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let keys = open_keys(&settings, &metrics)?;
        // First of all: a server that can't listen should not touch the database.
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("can't listen on {} (ONEX_REGISTRY_LISTEN)", settings.listen))?;
        let store = open_store(&settings).await?;
        let registry = Arc::new(Registry::start(Parts {
            store,
            metrics: Arc::clone(&metrics),
            ttl: settings.ttl,
            health: HealthSettings {
                expire_after: settings.expire_after,
                preservation_percent: settings.self_preservation_percent,
                probing: settings.probing.clone().map(within_open_files),
                event_retention: settings.event_retention,
            },
            compare_every: settings.compare_interval,
            slow: settings.slow,
        })?);
        registry.has_reported().await;
        let address = listener.local_addr()?;
        let reloading = keys.clone().map(Reloading::start).transpose().context("SIGHUP can't be handled")?;
        let app = App::new(Arc::clone(&registry), metrics, keys, &settings);
        tracing::info!(%address, swagger_ui = %format!("http://{address}/swagger-ui/"), "listening");
        Ok(Self {
            listener,
            address,
            registry,
            router: http::router(&app, &settings.cors),
            reloading,
            shutdown_timeout: settings.shutdown_timeout,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop. Then no new connection is taken, requests in flight finish, and the database is
    /// closed. What has not finished by the time limit is cut off.
    ///
    /// # Errors
    /// If the server fails, or requests had to be cut off.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let registry = Arc::clone(&self.registry);
        // Requests in flight are waited for, and those that wait for changes would wait on.
        let stop = async move {
            stop.await;
            registry.stop_watching();
        };
        let Ended { in_time, deadline } =
            http::serve(self.listener, self.router, stop, self.shutdown_timeout).await;
        // What was cut off a moment ago still gives its connections to the database back.
        let deadline = deadline.max(Instant::now() + CLOSE_TIME);
        let closed = tokio::time::timeout_at(deadline, self.registry.close()).await.is_ok();
        if let Some(reloading) = self.reloading {
            reloading.stop().await;
        }
        anyhow::ensure!(
            in_time && closed,
            "requests were cut off: they took longer than {} (ONEX_REGISTRY_SHUTDOWN_TIMEOUT) to finish",
            humantime::format_duration(self.shutdown_timeout)
        );
        tracing::info!("stopped");
        Ok(())
    }
}

/// Reads the keys, before anything else is touched: without them nobody could be served.
fn open_keys(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Arc<Keys>>> {
    match &settings.api_keys_file {
        Some(file) => {
            let keys = Keys::open(file, Arc::clone(metrics))
                .context("the file of API keys is wrong (ONEX_REGISTRY_API_KEYS_FILE)")?;
            Ok(Some(Arc::new(keys)))
        }
        None if settings.is_local() => {
            tracing::info!("there are no API keys: every program on this machine may change everything");
            Ok(None)
        }
        None => {
            tracing::warn!("there are no API keys: everybody who reaches this server may change everything");
            Ok(None)
        }
    }
}

/// Connections to nodes are open files, and the server needs some for itself: a half of those that it may have.
fn within_open_files(probing: ProbeSettings) -> ProbeSettings {
    // As many as the operating system lets us have: the usual limit is for programs that use select(2).
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
    ProbeSettings { idle_connections: probing.idle_connections.min(half), ..probing }
}

async fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    match &settings.database {
        DatabaseUrl::Sqlite(url) => {
            let store = SqliteStore::open(url, Arc::new(SystemClock), settings.ttl.into()).await?;
            let path = store.path().canonicalize().unwrap_or_else(|_| store.path().to_owned());
            tracing::info!(path = %path.display(), "the data lies in an embedded SQLite file");
            Ok(Arc::new(store))
        }
        DatabaseUrl::Postgres(url) => {
            let store =
                PostgresStore::connect(url.expose(), settings.database_connections, settings.ttl.into())
                    .await
                    .with_context(|| format!("PostgreSQL can't be reached at {}", settings.database))?;
            if settings.migrate {
                let versions = store.migrate().await?;
                if !versions.is_empty() {
                    tracing::info!(applied = ?versions, "migrated the database");
                }
            }
            store.preflight().await?;
            tracing::info!(database = %settings.database, "the data lies in PostgreSQL");
            Ok(Arc::new(store))
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// If the signals can't be handled.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
