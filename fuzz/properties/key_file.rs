//! Files of keys. In the input, `@0@` to `@9@` are the digests of ten secrets, and `@s@` is a secret that somebody has put where
//! it doesn't belong.
//!
//! A file that is accepted lets in whoever shows the secret of a key in it, as that key, and nobody else. Whatever is wrong
//! with one, neither a secret nor a digest is in what is said about it; names are said, so a secret in place of a name is.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use onex_registry::keys::{Fingerprint, Key, Keys, Role, Shown};
use onex_registry::metrics::Metrics;
use time::{Duration, OffsetDateTime};
use toml::{Table, Value};

/// Enough for all that there can be in it; larger ones are the same again.
const MAX_BYTES: usize = 16 * 1024;

/// A secret where it doesn't belong.
const MISPLACED: &str = "onex_Zm9yIHlvdXIgZXllcyBvbmx5";

/// Checks a file.
pub fn holds(input: &[u8]) {
    if input.len() > MAX_BYTES {
        return;
    }
    let content = filled_in(input);
    let file = tempfile::NamedTempFile::new().expect("the temporary folder is writable");
    std::fs::write(file.path(), &content).expect("the temporary folder is writable");
    let table = std::str::from_utf8(&content).ok().and_then(|text| toml::from_str::<Table>(text).ok());
    let mut names = table.as_ref().map(names_in).unwrap_or_default();
    let said = match Keys::open(file.path(), Arc::clone(&METRICS)) {
        Ok(keys) => {
            let table = table.as_ref().expect("a file that is accepted is TOML");
            lets_in_whoever_has_a_key(&keys, table);
            names.extend(
                entries_in(table).flat_map(|entry| texts(entry, "node_ids")).map(str::to_ascii_lowercase),
            );
            format!("{keys:?} {:?}", shown(&keys))
        }
        Err(wrong) => {
            assert!(!wrong.to_string().is_empty(), "refused without a reason");
            format!("{wrong} {wrong:?}")
        }
    };
    says_no_secret(&said, &names, file.path());
}

/// A registry of metrics takes long to make.
static METRICS: LazyLock<Arc<Metrics>> =
    LazyLock::new(|| Arc::new(Metrics::new().expect("the names are distinct")));

fn secret(number: usize) -> String {
    format!("onex_secret-{number}")
}

static DIGESTS: LazyLock<[String; 10]> =
    LazyLock::new(|| std::array::from_fn(|number| Fingerprint::of(secret(number).as_bytes()).to_hex()));

fn filled_in(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() * 2);
    let mut rest = input;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [number @ b'0'..=b'9', b'@', after @ ..] if byte == b'@' => {
                out.extend(DIGESTS[usize::from(number - b'0')].as_bytes());
                rest = after;
            }
            [b's', b'@', after @ ..] if byte == b'@' => {
                out.extend(MISPLACED.as_bytes());
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    out
}

// --- What is accepted -------------------------------------------------------------------------------------------------

/// Before any key may end, and after all that end have ended.
fn moments() -> [OffsetDateTime; 2] {
    let days = Duration::days(366 * 10_000);
    [OffsetDateTime::UNIX_EPOCH - Duration::SECOND, OffsetDateTime::UNIX_EPOCH + days]
}

fn lets_in_whoever_has_a_key(keys: &Keys, file: &Table) {
    let entries: Vec<&Table> = entries_in(file).collect();
    assert!(!entries.is_empty(), "a file without keys would let nobody in");
    let [before, after] = moments();
    for number in 0..10 {
        let listed =
            entries.iter().find(|entry| text(entry, "sha256").eq_ignore_ascii_case(&DIGESTS[number]));
        for now in [before, after] {
            is_as_listed(&keys.of_secret(secret(number).as_bytes(), now), listed.copied(), now == after);
        }
        // What is in the file is no secret.
        assert!(matches!(keys.of_secret(DIGESTS[number].as_bytes(), before), Shown::Unknown));
    }
    for stranger in ["", "onex_", MISPLACED] {
        assert!(matches!(keys.of_secret(stranger.as_bytes(), before), Shown::Unknown), "{stranger}");
        assert!(matches!(keys.of_name(&format!("{stranger} "), before), Shown::Unknown), "{stranger}");
    }
    for entry in &entries {
        for now in [before, after] {
            is_as_listed(&keys.of_name(text(entry, "name"), now), Some(entry), now == after);
        }
    }
}

fn is_as_listed(shown: &Shown, listed: Option<&Table>, has_ended: bool) {
    match (shown, listed) {
        (Shown::Unknown, None) => {}
        (Shown::Expired, Some(entry)) => assert!(has_ended && entry.contains_key("expires"), "{entry:?}"),
        (Shown::Valid(key), Some(entry)) => {
            assert!(!has_ended || !entry.contains_key("expires"), "{entry:?}");
            is_that(key, entry);
        }
        _ => panic!("{shown:?} of {listed:?}"),
    }
}

fn is_that(key: &Key, entry: &Table) {
    assert_eq!(key.name().as_str(), text(entry, "name"));
    assert_eq!(key.expires().is_some(), entry.contains_key("expires"), "{entry:?}");
    let roles = texts(entry, "roles");
    let highest = ["admin", "write", "read"].into_iter().find(|role| roles.contains(role));
    assert_eq!(Some(key.role().as_str()), highest, "{entry:?}");
    let known = ["name", "sha256", "roles", "node_ids", "expires"];
    assert!(entry.keys().all(|field| known.contains(&field.as_str())), "{entry:?}");

    let patterns = texts(entry, "node_ids");
    assert!(patterns.is_empty() || key.role() == Role::Write, "patterns that mean nothing: {entry:?}");
    // A pattern covers what it is without its stars, and what each star may stand for.
    for (pattern, filling) in
        patterns.iter().flat_map(|pattern| ["", "x", "*"].map(|filling| (pattern, filling)))
    {
        assert!(key.may_change(&pattern.replace('*', filling)), "{entry:?}");
    }
    // One that no pattern covers without a star.
    let stranger = "\u{1}";
    let is_covered = match key.role() {
        Role::Read => false,
        Role::Write => {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.trim_matches('*').is_empty())
        }
        Role::Admin => true,
    };
    assert_eq!(key.may_change(stranger), is_covered, "{entry:?}");
}

fn text<'t>(entry: &'t Table, field: &str) -> &'t str {
    entry[field].as_str().expect("it is a text")
}

fn texts<'t>(entry: &'t Table, field: &str) -> Vec<&'t str> {
    let list = entry.get(field).map(|list| list.as_array().expect("it is a list"));
    list.into_iter().flatten().map(|text| text.as_str().expect("it is a text")).collect()
}

// --- What is said -----------------------------------------------------------------------------------------------------

fn shown(keys: &Keys) -> Vec<Shown> {
    (0..10).flat_map(|number| moments().map(|now| keys.of_secret(secret(number).as_bytes(), now))).collect()
}

fn says_no_secret(said: &str, names: &[String], path: &Path) {
    // Only its name is said of the file.
    let said = said.replace(&path.display().to_string(), "").to_ascii_lowercase();
    // A part is as good as the whole to whoever looks for it.
    let misplaced = MISPLACED[5..21].to_ascii_lowercase();
    for needle in DIGESTS.iter().map(|digest| &digest[..16]).chain([misplaced.as_str()]) {
        let is_a_name = names.iter().any(|name| name.contains(needle));
        assert!(is_a_name || !said.contains(needle), "{said}");
    }
}

/// The names of keys, and of fields.
fn names_in(file: &Table) -> Vec<String> {
    let fields = file.keys().chain(entries_in(file).flat_map(Table::keys)).map(String::as_str);
    let names = entries_in(file).filter_map(|entry| entry.get("name").and_then(Value::as_str));
    fields.chain(names).map(str::to_ascii_lowercase).collect()
}

fn entries_in(file: &Table) -> impl Iterator<Item = &Table> {
    file.get("keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}
