//! API keys: who may do what. They lie in a file, which has the digests of the secrets and not the secrets, and is read
//! again when it changes.
//!
//! What a request needs, and what it is answered without it, is decided in `http`. Nothing here knows of HTTP.

mod file;
mod key;
mod make;
mod pattern;
mod reload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::watch;

pub use self::file::BadKeys;
pub use self::key::{Fingerprint, Key, KeyName, Role};
pub use self::make::{NewKey, expiry};
pub use self::pattern::Pattern;
pub use self::reload::Reloading;
use crate::metrics::{KeysReload, Metrics};

/// The keys as they are at the moment.
pub struct Keys {
    file: PathBuf,
    /// Replaced as a whole by [`Reloading`], read by every request.
    current: ArcSwap<KeySet>,
    /// Told when there are others, for those whose request goes on and on.
    changed: watch::Sender<()>,
    metrics: Arc<Metrics>,
}

/// What a secret or a name that a client shows is worth.
#[derive(Debug)]
pub enum Shown {
    /// It is that of this key.
    Valid(Arc<Key>),
    /// It is that of a key that has expired.
    Expired,
    /// It is that of no key.
    Unknown,
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn open(file: &Path, metrics: Arc<Metrics>) -> Result<Self, BadKeys> {
        let content = file::read(file)?;
        let set = file::parse(&content, file)?;
        file::warn_of_mode(file);
        let keys = Self {
            file: file.to_owned(),
            current: ArcSwap::from_pointee(KeySet::default()),
            changed: watch::Sender::new(()),
            metrics,
        };
        keys.replace(set);
        Ok(keys)
    }

    /// Who shows this secret. All keys are compared, each in constant time: how long it takes tells nothing of them.
    #[must_use]
    pub fn of_secret(&self, secret: &[u8], now: OffsetDateTime) -> Shown {
        self.current.load().with(&Fingerprint::of(secret)).map_or(Shown::Unknown, |key| shown(key, now))
    }

    /// Who has this name, which somebody else has made sure of.
    #[must_use]
    pub fn of_name(&self, name: &str, now: OffsetDateTime) -> Shown {
        self.current.load().named(name).map_or(Shown::Unknown, |key| shown(key, now))
    }

    /// Waits until a key is not valid any more: it has expired, or is not in the file, or not with the same rights.
    pub async fn revoked(&self, key: &Key) {
        let mut changed = self.changed.subscribe();
        loop {
            let now = OffsetDateTime::now_utc();
            if key.has_expired(now)
                || !self.current.load().with(key.fingerprint()).is_some_and(|k| **k == *key)
            {
                return;
            }
            let expired = async {
                match key.expires() {
                    // A clock that is set back is looked at again.
                    Some(at) => tokio::time::sleep((at - now).unsigned_abs().min(LONGEST_SLEEP)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is ours: it is there.
                _ = changed.changed() => {}
                () = expired => {}
            }
        }
    }

    fn replace(&self, set: KeySet) {
        let now = OffsetDateTime::now_utc();
        let expired: Vec<&str> =
            set.keys.iter().filter(|key| key.has_expired(now)).map(|key| key.name().as_str()).collect();
        if !expired.is_empty() {
            tracing::warn!(?expired, "some API keys have expired");
        }
        self.metrics.keys.in_use(set.keys.len());
        tracing::info!(keys = set.keys.len(), file = %self.file.display(), "API keys are in use");
        self.current.store(Arc::new(set));
        self.changed.send_replace(());
    }

    /// Keeps the keys that are in use.
    fn refuse(&self, why: &BadKeys) {
        tracing::error!(
            file = %self.file.display(),
            error = %why,
            "the file of API keys is wrong: those that were read before stay in use"
        );
        self.metrics.keys.reloaded(KeysReload::Refused);
    }
}

/// A clock may be set, so a long time is waited for in parts.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_mins(1);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("file", &self.file).finish_non_exhaustive()
    }
}

fn shown(key: &Arc<Key>, now: OffsetDateTime) -> Shown {
    if key.has_expired(now) { Shown::Expired } else { Shown::Valid(Arc::clone(key)) }
}

/// The keys of one reading of the file, each with a name and a digest of its own.
#[derive(Debug, Default)]
struct KeySet {
    keys: Vec<Arc<Key>>,
    /// The digest of the file that they are of.
    content: Option<Fingerprint>,
}

impl KeySet {
    fn with(&self, fingerprint: &Fingerprint) -> Option<&Arc<Key>> {
        // Not the first that is equal: to stop there would tell where it stands.
        self.keys.iter().fold(
            None,
            |found, key| {
                if key.fingerprint().is(fingerprint) { Some(key) } else { found }
            },
        )
    }

    /// A name is no secret.
    fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.name().as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn keys(content: &str) -> (tempfile::NamedTempFile, Keys) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let keys = Keys::open(file.path(), Arc::new(Metrics::new().unwrap())).unwrap();
        (file, keys)
    }

    fn entry(name: &str, secret: &str, more: &str) -> String {
        let digest = Fingerprint::of(secret.as_bytes());
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{}\"\nroles = [\"read\"]\n{more}\n", digest.to_hex())
    }

    #[test]
    fn a_key_is_found_by_its_secret_and_by_its_name_until_it_expires() {
        let until = "expires = \"2030-01-01T00:00:00Z\"";
        let (_file, keys) = keys(&(entry("a", "one", "") + &entry("b", "two", until)));
        let at = |text: &str| expiry(text, OffsetDateTime::UNIX_EPOCH).unwrap();
        let (before, after) = (at("2029-12-31T23:59:59Z"), at("2030-01-01T00:00:00Z"));
        let name = |shown: Shown| match shown {
            Shown::Valid(key) => key.name().as_str().to_owned(),
            Shown::Expired => "expired".to_owned(),
            Shown::Unknown => "unknown".to_owned(),
        };
        for (secret, now, expected) in [
            ("one", before, "a"),
            ("one", after, "a"),
            ("two", before, "b"),
            ("two", after, "expired"),
            ("three", before, "unknown"),
            ("", before, "unknown"),
        ] {
            assert_eq!(name(keys.of_secret(secret.as_bytes(), now)), expected, "{secret} {now}");
        }
        assert_eq!(name(keys.of_name("b", before)), "b");
        assert_eq!(name(keys.of_name("b", after)), "expired");
        assert_eq!(name(keys.of_name("two", before)), "unknown", "a secret is no name");
    }

    #[test]
    fn nothing_that_is_debugged_has_a_digest() {
        let (_file, keys) = keys(&entry("a", "one", ""));
        let hex = Fingerprint::of(b"one").to_hex();
        let shown =
            format!("{keys:?} {:?} {:?}", keys.current.load(), keys.of_name("a", OffsetDateTime::UNIX_EPOCH));
        assert!(!shown.contains(&hex[..8]) && shown.contains("\"a\""), "{shown}");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_that_a_key_is_not_valid_any_more() {
        let (_file, keys) = keys(&entry("a", "one", ""));
        let Shown::Valid(key) = keys.of_secret(b"one", OffsetDateTime::now_utc()) else {
            panic!("it is valid")
        };
        let parse = |content: String| file::parse(content.as_bytes(), Path::new("keys")).unwrap();
        let mut waiting = std::pin::pin!(keys.revoked(&key));
        assert!(waiting.as_mut().now_or_never().is_none());
        keys.replace(parse(entry("a", "one", "") + &entry("b", "two", "")));
        assert!(waiting.as_mut().now_or_never().is_none(), "another one came");
        keys.replace(parse(entry("a", "other", "")));
        waiting.await;
        keys.replace(parse(entry("a", "one", "").replace("read", "admin")));
        assert!(keys.revoked(&key).now_or_never().is_some(), "its rights are others");
        let soon = (OffsetDateTime::now_utc() + time::Duration::milliseconds(300)).unix_timestamp() + 1;
        let soon = humantime::format_rfc3339_seconds(
            std::time::UNIX_EPOCH + Duration::from_secs(soon.cast_unsigned()),
        );
        keys.replace(parse(entry("a", "one", &format!("expires = \"{soon}\""))));
        let Shown::Valid(key) = keys.of_secret(b"one", OffsetDateTime::UNIX_EPOCH) else {
            panic!("it is valid")
        };
        keys.revoked(&key).await;
        assert!(key.has_expired(OffsetDateTime::now_utc()));
    }
}
