//! The file of keys: TOML, read as a whole, and refused as a whole with all that is wrong with it.
//!
//! What is wrong is said in words of ours, with the line: the words of a TOML library repeat the line itself, and people
//! put secrets where digests belong.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use time::{Date, OffsetDateTime, Time, UtcOffset};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml::value::{Datetime, Offset};

use super::key::{Fingerprint, Key, KeyName, Role};
use super::{KeySet, Pattern};
use crate::node::fault::harmless;
use crate::small_file;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The most keys: each request that shows one is compared with all.
const MAX_KEYS: usize = 2_000;
/// The most patterns of a key.
const MAX_PATTERNS: usize = 100;
/// So much that is wrong is named. The rest is counted.
const MAX_NAMED: usize = 100;

const FIELDS: &str = "the fields of a key are name, sha256, roles, node_ids, expires";

/// All that is wrong with a file of keys. It names no secret and no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadKeys(Vec<String>);

impl BadKeys {
    /// The server stops, and nothing is read any more.
    pub(super) fn interrupted() -> Self {
        Self(vec!["the file was not read to its end".to_owned()])
    }
}

/// Reads a file, unless it is too large or no file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, BadKeys> {
    let wrong = |why| BadKeys(vec![format!("{}: {why}", path.display())]);
    small_file::read(path, MAX_BYTES).map_err(wrong)
}

/// Warns if others may read it. From the digests nobody gets a secret that was made at random, but perhaps one that
/// somebody thought of; and the names are nobody's business.
pub(super) fn warn_of_mode(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    /// The bit that lets others read (chmod(2)).
    const OTHERS_READ: u32 = 0o004;
    if std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & OTHERS_READ != 0) {
        tracing::warn!(
            file = %path.display(),
            "every user of this machine can read the file of API keys; better: chmod o-r"
        );
    }
}

/// The keys in a file. `path` is only named.
pub(super) fn parse(content: &[u8], path: &Path) -> Result<KeySet, BadKeys> {
    let mut reading = Reading { path, text: "", wrong: Vec::new(), left_out: 0 };
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            reading.text = std::str::from_utf8(&content[..error.valid_up_to()]).unwrap_or_default();
            reading.wrong(error.valid_up_to(), None, "is not UTF-8");
            return reading.end(Vec::new());
        }
    };
    reading.text = text;
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut places: Vec<(usize, &str)> = errors
        .iter()
        .map(|error| (error.span().map_or(text.len(), |span| span.start), error.message()))
        .collect();
    places.sort_by_key(|(at, _)| *at);
    for (at, message) in places {
        reading.wrong(at, None, &format!("is not TOML: {message}"));
    }
    // What could be made of the rest would be guesses.
    let keys = if errors.is_empty() { reading.keys(table.get_ref()) } else { Vec::new() };
    let mut set = reading.end(keys)?;
    set.content = Some(Fingerprint::of(content));
    Ok(set)
}

struct Reading<'t> {
    path: &'t Path,
    text: &'t str,
    wrong: Vec<String>,
    left_out: usize,
}

/// A key that is being read: where it begins, and its name if it has one.
struct Entry<'t> {
    at: usize,
    name: Option<&'t str>,
}

impl<'t> Reading<'t> {
    /// Notes what is wrong at a byte of the file, with a key.
    fn wrong(&mut self, at: usize, entry: Option<&Entry<'_>>, what: &str) {
        if self.wrong.len() >= MAX_NAMED {
            self.left_out += 1;
            return;
        }
        let key = entry
            .and_then(|entry| entry.name)
            .map_or(String::new(), |name| format!(", key '{}'", harmless(name)));
        self.wrong.push(format!("{} line {}{key}: {what}", self.path.display(), self.line(at)));
    }

    fn line(&self, at: usize) -> usize {
        // A fault stands between characters, and the end of the text is one of these places.
        self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1
    }

    fn end(mut self, keys: Vec<Arc<Key>>) -> Result<KeySet, BadKeys> {
        if self.left_out > 0 {
            self.wrong.push(format!("{} more faults are not listed", self.left_out));
        }
        if self.wrong.is_empty() { Ok(KeySet { keys, content: None }) } else { Err(BadKeys(self.wrong)) }
    }

    fn keys(&mut self, file: &DeTable<'t>) -> Vec<Arc<Key>> {
        for name in file.keys().filter(|name| name.get_ref() != "keys") {
            let what = format!("'{}' is not a field of this file; it has [[keys]]", harmless(name.get_ref()));
            self.wrong(name.span().start, None, &what);
        }
        let Some((_, found)) = file.iter().find(|(name, _)| name.get_ref() == "keys") else {
            self.wrong(0, None, "has no keys: begin each with [[keys]]");
            return Vec::new();
        };
        let Some(entries) = found.get_ref().as_array() else {
            self.wrong(found.span().start, None, "keys must be tables: begin each with [[keys]]");
            return Vec::new();
        };
        if entries.is_empty() || entries.len() > MAX_KEYS {
            let what = format!("must have 1 to {MAX_KEYS} keys, not {}", entries.len());
            self.wrong(found.span().start, None, &what);
            return Vec::new();
        }
        self.distinct(entries)
    }

    /// The keys that are right, if no two have the same name or digest.
    fn distinct(&mut self, entries: &DeArray<'t>) -> Vec<Arc<Key>> {
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut digests: HashMap<String, usize> = HashMap::new();
        let mut keys = Vec::new();
        for found in entries {
            let Some(table) = found.get_ref().as_table() else {
                self.wrong(found.span().start, None, "keys must be tables: begin each with [[keys]]");
                continue;
            };
            let name = field(table, "name").and_then(|name| name.get_ref().as_str());
            let entry = Entry { at: found.span().start, name };
            // Looked at even if something else is wrong with the key: all is said at once.
            if let Some(other) = name.and_then(|name| names.insert(name.to_owned(), entry.at)) {
                let what = format!("name: the key of line {} has it already", self.line(other));
                self.wrong(entry.at, Some(&entry), &what);
            }
            let digest = field(table, "sha256")
                .and_then(|digest| digest.get_ref().as_str())
                .map(str::to_ascii_lowercase);
            if let Some(other) = digest.and_then(|digest| digests.insert(digest, entry.at)) {
                let what = format!("sha256: the key of line {} has it already", self.line(other));
                self.wrong(entry.at, Some(&entry), &what);
            }
            keys.extend(self.key(&entry, table).map(Arc::new));
        }
        keys
    }

    fn key(&mut self, entry: &Entry<'_>, table: &DeTable<'t>) -> Option<Key> {
        for name in table.keys() {
            if !["name", "sha256", "roles", "node_ids", "expires"].contains(&name.get_ref().as_ref()) {
                let what = format!("'{}' is not a field; {FIELDS}", harmless(name.get_ref()));
                self.wrong(name.span().start, Some(entry), &what);
            }
        }
        let before = self.wrong.len() + self.left_out;
        let name = self.text_of(entry, table, "name", KeyName::parse);
        let fingerprint = self.text_of(entry, table, "sha256", |text| {
            Fingerprint::from_hex(text).ok_or("must be 64 hexadecimal digits: the SHA-256 of the secret")
        });
        let roles = self.list(entry, table, "roles", Role::ALL.len(), Role::from_name);
        if roles.as_ref().is_some_and(Vec::is_empty) || field(table, "roles").is_none() {
            self.wrong(entry.at, Some(entry), "roles: is required, some of read, write, admin");
        }
        let node_ids = self.list(entry, table, "node_ids", MAX_PATTERNS, Pattern::parse);
        if node_ids.as_ref().is_some_and(Vec::is_empty) {
            // Nobody is to have all by a slip who meant none.
            self.wrong(
                entry.at,
                Some(entry),
                "node_ids: must not be empty; a key without it covers all nodes",
            );
        }
        let expires = field(table, "expires").map(|value| {
            let at = match value.get_ref() {
                DeValue::String(text) => instant(text),
                DeValue::Datetime(at) => instant_of(at),
                _ => None,
            };
            let at = at.filter(|at| is_sane_expiry(*at));
            if at.is_none() {
                let what = "expires: must be an instant with its offset, such as \"2030-01-31T12:00:00Z\"";
                self.wrong(value.span().start, Some(entry), what);
            }
            at
        });
        let role = roles.unwrap_or_default().into_iter().max();
        let node_ids = node_ids.unwrap_or_default();
        if let Some(reason) = role.and_then(|role| contradiction(role, &node_ids)) {
            self.wrong(entry.at, Some(entry), &format!("node_ids: {reason}"));
        }
        if self.wrong.len() + self.left_out > before {
            return None;
        }
        Some(Key {
            name: name?,
            fingerprint: fingerprint?,
            role: role?,
            node_ids,
            expires: expires.flatten(),
        })
    }

    /// A field that must be there and hold a text of a kind.
    fn text_of<T>(
        &mut self,
        entry: &Entry<'_>,
        table: &DeTable<'t>,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let (at, parsed) = match field(table, name) {
            None => (entry.at, Err("is required")),
            Some(value) => {
                (value.span().start, value.get_ref().as_str().ok_or("must be a string").and_then(parse))
            }
        };
        parsed.map_err(|reason| self.wrong(at, Some(entry), &format!("{name}: {reason}"))).ok()
    }

    /// A field that may be there, and holds texts of a kind. What of them is wrong is left out.
    fn list<T>(
        &mut self,
        entry: &Entry<'_>,
        table: &DeTable<'t>,
        name: &str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<Vec<T>> {
        let value = field(table, name)?;
        let Some(items) = value.get_ref().as_array().filter(|items| items.len() <= most) else {
            let what = format!("{name}: must be an array of strings, at most {most}");
            self.wrong(value.span().start, Some(entry), &what);
            return None;
        };
        let mut good = Vec::with_capacity(items.len());
        let mut all_good = true;
        for item in items {
            let Range { start, .. } = item.span();
            match item.get_ref().as_str().ok_or("must be a string").and_then(&parse) {
                Ok(item) => good.push(item),
                Err(reason) => {
                    all_good = false;
                    self.wrong(start, Some(entry), &format!("{name}: {reason}"));
                }
            }
        }
        all_good.then_some(good)
    }
}

fn field<'v, 't>(table: &'v DeTable<'t>, name: &str) -> Option<&'v Spanned<DeValue<'t>>> {
    table.iter().find(|(found, _)| found.get_ref() == name).map(|(_, value)| value)
}

/// Why patterns say nothing about a key of this role. Whoever wrote them believes that they do.
pub(super) fn contradiction(role: Role, node_ids: &[Pattern]) -> Option<&'static str> {
    match role {
        _ if node_ids.is_empty() => None,
        Role::Read => {
            Some("limits what a key may change, and one with the role read changes nothing: leave it out")
        }
        Role::Write => None,
        Role::Admin => Some("does not limit a key with the role admin: leave it out, or give it write"),
    }
}

/// An instant of RFC 3339.
pub(super) fn instant(text: &str) -> Option<OffsetDateTime> {
    instant_of(&text.parse().ok()?)
}

fn instant_of(at: &Datetime) -> Option<OffsetDateTime> {
    let (date, time) = (at.date?, at.time?);
    let minutes = match at.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i32::from(minutes),
    };
    let date = Date::from_calendar_date(date.year.into(), date.month.try_into().ok()?, date.day).ok()?;
    // A leap second is the end of the second before it.
    let second = time.second.unwrap_or(0).min(59);
    let time = Time::from_hms_nano(time.hour, time.minute, second, time.nanosecond.unwrap_or(0)).ok()?;
    Some(date.with_time(time).assume_offset(UtcOffset::from_whole_seconds(minutes * 60).ok()?))
}

/// Four digits of a year, and not before there were computers: else it is a slip.
pub(super) fn is_sane_expiry(at: OffsetDateTime) -> bool {
    at >= OffsetDateTime::UNIX_EPOCH && at.to_offset(UtcOffset::UTC).year() <= 9_999
}

#[cfg(test)]
mod tests;
