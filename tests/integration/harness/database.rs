//! A database for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::cluster;

/// A database of its own on the cluster, dropped with this value. Empty at first.
pub(crate) struct TestDatabase {
    name: String,
}

impl TestDatabase {
    pub(crate) async fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onex_test_{}_{number}", std::process::id());
        let mut admin = admin().await;
        let version: String =
            sqlx::query_scalar("SHOW server_version_num").fetch_one(&mut admin).await.unwrap();
        // A collation that is not bytewise, so that what ought to be is seen to be.
        let collation = if version.parse::<u32>().unwrap() >= 150_000 {
            "LOCALE_PROVIDER icu ICU_LOCALE 'en' TEMPLATE template0"
        } else {
            "TEMPLATE template0"
        };
        let create = AssertSqlSafe(format!("CREATE DATABASE {name} {collation}"));
        sqlx::query(create).execute(&mut admin).await.unwrap();
        Self { name }
    }

    /// Its URL, as the owner of everything.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", cluster::url(), self.name)
    }

    /// Its URL for another role, which logs in without a password on the private cluster.
    pub(crate) fn url_as(&self, role: &str) -> String {
        let mut url = url::Url::parse(&self.url()).unwrap();
        url.set_username(role).unwrap();
        // A role on a server of the user's has its name for a password.
        url.set_password(std::env::var_os("TEST_DATABASE_URL").map(|_| role)).unwrap();
        url.to_string()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A connection of a program that is not ours.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// The same as another role.
    pub(crate) async fn connect_as(&self, role: &str) -> PgConnection {
        PgConnection::connect(&self.url_as(role)).await.unwrap()
    }

    /// Makes a role for this test, which may log in and nothing else. Roles belong to the server and not to the
    /// database, so its name has the database's in it.
    pub(crate) async fn create_role(&self, purpose: &str) -> String {
        let role = format!("{}_{purpose}", self.name);
        let mut connection = self.connect().await;
        let create = AssertSqlSafe(format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'"));
        sqlx::query(create).execute(&mut connection).await.unwrap();
        role
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        // Drop can't wait for a future on the runtime that it runs on.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = admin().await;
                let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
                let _ = sqlx::query(drop).execute(&mut admin).await;
                let roles: Vec<String> =
                    sqlx::query_scalar("SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)")
                        .bind(format!("{name}_"))
                        .fetch_all(&mut admin)
                        .await
                        .unwrap_or_default();
                for role in roles {
                    let drop = AssertSqlSafe(format!("DROP ROLE IF EXISTS {role}"));
                    let _ = sqlx::query(drop).execute(&mut admin).await;
                }
            });
        });
        let _ = dropping.join();
    }
}

async fn admin() -> PgConnection {
    PgConnection::connect(&format!("{}/postgres", cluster::url()))
        .await
        .expect("the PostgreSQL server answers")
}
