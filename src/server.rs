//! The server: opens the database, listens, serves, and stops without losing a request.

mod opening;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::opening::{NotOpen, Opening};

use crate::config::{ConnectionLimits, DatabaseUrl, Settings};
use crate::http::{self, App, Door, Ended, Tls};
use crate::keys::{Keys, Reloading};
use crate::metrics::Metrics;
use crate::registry::health::HealthSettings;
use crate::registry::prober::ProbeSettings;
use crate::registry::snapshot::{self, Restored, SnapshotError, SnapshotSettings};
use crate::registry::{Parts, Registry};
use crate::store::Store;
use crate::store::clock::SystemClock;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

/// How long closing the database may take at the least, if the time for the stop is up.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Open files that the server needs for itself: the database's, those of clients that are turned away, and some to spare.
const OWN_FILES: usize = 256;

/// A server that listens, and serves once it runs.
pub struct Server {
    door: Door,
    address: SocketAddr,
    registry: Arc<Registry>,
    router: axum::Router,
    reloading: Option<Reloading>,
    shutdown_timeout: Duration,
    /// Who waits for a database that was away at the start.
    opening: TaskTracker,
    stop_opening: DropGuard,
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
        let tls = match settings.tls.clone() {
            Some(files) => Some(Tls::load(files, Arc::clone(&metrics)).await.context("TLS can't be set up")?),
            None => None,
        };
        let Opened { store, opening } = open_store(&settings).await?;
        let snapshot = snapshot(&settings);
        let is_open = opening.is_none();
        let restored = if is_open { None } else { restored(snapshot.clone(), settings.ttl).await };
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
            breaker: settings.breaker,
            is_open,
            snapshot,
            restored,
        })?);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        match opening {
            None => registry.has_reported().await,
            Some(opening) => drop(tasks.spawn(opening.keep_trying(Arc::clone(&registry), stop.clone()))),
        }
        tasks.close();
        let address = listener.local_addr()?;
        let reloading = keys.clone().map(Reloading::start).transpose().context("SIGHUP can't be handled")?;
        let app = App::new(Arc::clone(&registry), Arc::clone(&metrics), keys, &settings);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let page = format!("{scheme}://{address}/");
        tracing::info!(%address, dashboard = %page, swagger_ui = %format!("{page}swagger-ui/"), "listening");
        Ok(Self {
            door: Door { listener, tls, limits: within_files(settings.connections), metrics },
            address,
            registry,
            router: http::router(&app, &settings.cors),
            reloading,
            shutdown_timeout: settings.shutdown_timeout,
            opening: tasks,
            stop_opening: stop.drop_guard(),
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
            http::serve(self.door, self.router, stop, self.shutdown_timeout).await;
        // What was cut off a moment ago still gives its connections to the database back.
        let deadline = deadline.max(Instant::now() + CLOSE_TIME);
        drop(self.stop_opening);
        let closing = async {
            self.opening.wait().await;
            self.registry.close().await;
        };
        let closed = tokio::time::timeout_at(deadline, closing).await.is_ok();
        if let Some(reloading) = self.reloading {
            // It may be in the middle of reading a file.
            let _ = tokio::time::timeout_at(deadline, reloading.stop()).await;
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

/// Connections are open files. Those to nodes may take a half of what there is.
fn within_open_files(probing: ProbeSettings) -> ProbeSettings {
    ProbeSettings { idle_connections: probing.idle_connections.min(half_of_open_files()), ..probing }
}

/// Those of clients may take the other half, but for what the server needs for itself.
fn within_files(limits: ConnectionLimits) -> ConnectionLimits {
    let room = half_of_open_files().saturating_sub(OWN_FILES).max(1);
    if limits.most > room {
        tracing::warn!(
            connections = room,
            "the limit of open files allows fewer connections than ONEX_REGISTRY_MAX_CONNECTIONS; raise it (ulimit -n)"
        );
    }
    ConnectionLimits { most: limits.most.min(room), ..limits }
}

fn half_of_open_files() -> usize {
    // As many as the operating system lets us have: the usual limit is for programs that use select(2).
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    usize::try_from(files / 2).unwrap_or(usize::MAX)
}

/// A store, and what is left to do before it can be asked.
struct Opened {
    store: Arc<dyn Store>,
    opening: Option<Opening>,
}

async fn open_store(settings: &Settings) -> anyhow::Result<Opened> {
    match &settings.database {
        DatabaseUrl::Sqlite(url) => {
            let store = SqliteStore::open(url, Arc::new(SystemClock), settings.ttl.into()).await?;
            let path = store.path().canonicalize().unwrap_or_else(|_| store.path().to_owned());
            tracing::info!(path = %path.display(), "the data lies in an embedded SQLite file");
            Ok(Opened { store: Arc::new(store), opening: None })
        }
        DatabaseUrl::Postgres(url) => {
            let store = PostgresStore::new(url.expose(), settings.database_connections, settings.ttl.into())?;
            let store = Arc::new(store);
            let place = settings.database.to_string();
            let opening = Opening { store: Arc::clone(&store), place, migrates: settings.migrate };
            match opening.begin().await {
                Ok(()) => Ok(Opened { store, opening: None }),
                Err(NotOpen::ForGood(error)) => Err(error),
                Err(NotOpen::Away(error)) => {
                    let reason = format!("{error:#}");
                    tracing::warn!(
                        reason,
                        "the database is away: the server starts without it, and tries again"
                    );
                    Ok(Opened { store, opening: Some(opening) })
                }
            }
        }
    }
}

/// Where the last known fleet is kept. An SQLite file is on this disk itself.
fn snapshot(settings: &Settings) -> Option<SnapshotSettings> {
    let path = settings.snapshot.clone()?;
    match &settings.database {
        DatabaseUrl::Postgres(url) => {
            PostgresStore::place(url.expose()).map(|place| SnapshotSettings { path, place })
        }
        DatabaseUrl::Sqlite(_) => {
            tracing::warn!("ONEX_REGISTRY_SNAPSHOT is for PostgreSQL, and does nothing with an SQLite file");
            None
        }
    }
}

/// What was kept, if it can be served.
async fn restored(snapshot: Option<SnapshotSettings>, ttl: Duration) -> Option<Restored> {
    let snapshot = snapshot?;
    let path = snapshot.path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || snapshot::restore(&snapshot, ttl));
    match reading.await {
        Ok(Ok(restored)) => {
            tracing::info!(path, nodes = restored.nodes, "the nodes are served from the snapshot");
            return Some(restored);
        }
        Ok(Err(SnapshotError::None)) => tracing::info!(path, "there is no snapshot yet"),
        Ok(Err(error)) => tracing::error!(path, %error, "the snapshot is not served"),
        Err(error) => tracing::error!(path, %error, "the snapshot could not be read"),
    }
    None
}

/// From now on, SIGHUP doesn't end the process. What is to be read again then sees to it itself; where nothing is, or not
/// yet, whoever sends it means no stop.
///
/// # Errors
/// If the signal can't be handled.
pub fn survive_hangup() -> std::io::Result<()> {
    // That it was asked for once is enough.
    signal(SignalKind::hangup()).map(drop)
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
