//! What containment asks of a JSON column, as numbers: one for each scalar at its path, and one for each object and array
//! that is there. In a path, keys are what they are, and the places of an array are all the same.
//!
//! A column contains what is wanted only if it has all tokens of it; see [`Wanted`] for when that is enough.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::node::containment::contains;
use crate::node::decimal::{self, value_of};
use crate::node::json::MAX_LEVELS;
use crate::node::{Json, JsonColumn, JsonObject};

/// Nobody can know beforehand which tokens collide.
static SECRET: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("tokens"));

/// A place in a column.
#[derive(Clone, Copy)]
struct Path(u64);

impl Path {
    fn root(column: JsonColumn) -> Self {
        Self(*SECRET).step(column as u64 + 1)
    }

    fn member(self, key: &str) -> Self {
        Self(xxh3_64_with_seed(key.as_bytes(), self.step(10).0))
    }

    fn element(self) -> Self {
        self.step(11)
    }

    fn text(self, kind: u64, text: &str) -> u64 {
        xxh3_64_with_seed(text.as_bytes(), self.step(kind).0)
    }

    fn string(self, text: &str) -> u64 {
        self.text(12, text)
    }

    /// A number is its value, however it is written.
    fn number(self, plain: &str) -> u64 {
        self.text(13, value_of(plain))
    }

    /// `null`, `true`, `false`.
    fn word(self, word: &str) -> u64 {
        self.text(14, word)
    }

    fn object(self) -> u64 {
        self.step(15).0
    }

    fn array(self) -> u64 {
        self.step(16).0
    }

    /// Mixes as `SplitMix64` does.
    fn step(self, by: u64) -> Self {
        let mut mixed = self.0.wrapping_add(by.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self(mixed ^ (mixed >> 31))
    }
}

/// The token of an id, which is looked up as others are.
pub(super) fn of_id(id: &str) -> u64 {
    Path(*SECRET).step(9).string(id)
}

/// What is wanted of a column.
pub(super) struct Wanted {
    pub(super) column: JsonColumn,
    /// In order, each once.
    pub(super) tokens: Vec<u64>,
    /// Whether a column that has these tokens contains what is wanted. Not so if an element of an array is wanted that
    /// has several parts: `[{"a":1,"b":2}]` and `[{"a":1},{"b":2}]` have the same.
    pub(super) exact: bool,
    json: Json,
}

impl Wanted {
    pub(super) fn of(column: JsonColumn, object: &JsonObject) -> Self {
        let json = object.to_json();
        let (mut tokens, mut exact) = (Vec::new(), true);
        parts(&json, Path::root(column), &mut tokens, &mut exact);
        tokens.sort_unstable();
        tokens.dedup();
        Self { column, tokens, exact, json }
    }

    /// Whether a column contains it.
    pub(super) fn is_in(&self, column: Option<&str>) -> bool {
        column.and_then(Json::read_stored).is_some_and(|own| contains(&own, &self.json))
    }
}

/// How many parts there are that have to be found one by one.
fn parts(json: &Json, path: Path, tokens: &mut Vec<u64>, exact: &mut bool) -> usize {
    let token = match json {
        Json::Object(members) if !members.is_empty() => {
            let member = |(key, value): &(String, Json)| parts(value, path.member(key), tokens, exact);
            return members.iter().map(member).sum();
        }
        Json::Array(items) if !items.is_empty() => {
            let mut of_all = 0;
            for item in items {
                let of_item = parts(item, path.element(), tokens, exact);
                *exact &= of_item == 1;
                of_all += of_item;
            }
            return of_all;
        }
        Json::Object(_) => path.object(),
        Json::Array(_) => path.array(),
        Json::Null => path.word("null"),
        Json::Bool(value) => path.word(if *value { "true" } else { "false" }),
        Json::Number(plain) => path.number(plain),
        Json::String(text) => path.string(text),
    };
    tokens.push(token);
    1
}

/// Appends the tokens of a column, whose text is compact JSON; some may come several times. `false` if there may be more
/// than count, because a key may stand there twice: then having a token says nothing.
pub(super) fn of_stored(column: JsonColumn, text: &str, tokens: &mut Vec<u64>) -> bool {
    // Only an object contains an object, and only objects are asked for.
    if !text.starts_with('{') {
        return true;
    }
    let mut scan = Scan { rest: text, tokens, sure: true };
    scan.value(Path::root(column), 1);
    scan.sure
}

/// Reads text that is known to be compact JSON. What [`Json::read_stored`] makes of it is what counts: deeper than that
/// nothing is read.
struct Scan<'t, 'o> {
    rest: &'t str,
    tokens: &'o mut Vec<u64>,
    sure: bool,
}

impl<'t> Scan<'t, '_> {
    fn value(&mut self, path: Path, level: usize) {
        let token = match self.rest.as_bytes().first() {
            Some(b'{') => {
                self.tokens.push(path.object());
                return self.object(path, level);
            }
            Some(b'[') => {
                self.tokens.push(path.array());
                return self.array(path, level);
            }
            Some(b'"') => {
                let raw = self.string();
                path.string(&value_of_string(raw))
            }
            _ => {
                let end = self.rest.find([',', ']', '}']).unwrap_or(self.rest.len());
                let word = self.take(end);
                match word.as_bytes().first() {
                    Some(b't' | b'f' | b'n') => path.word(word),
                    // Plain already.
                    Some(b'0'..=b'9') if !word.contains(['e', 'E']) => path.number(word),
                    _ => {
                        path.number(decimal::plain(word, decimal::MAX_PLAIN_CHARS).as_deref().unwrap_or(word))
                    }
                }
            }
        };
        self.tokens.push(token);
    }

    fn object(&mut self, path: Path, level: usize) {
        if level > MAX_LEVELS + 1 {
            return self.skip();
        }
        let mut last_key: Option<Cow<'t, str>> = None;
        self.take(1);
        while self.rest.starts_with('"') {
            let key = value_of_string(self.string());
            self.take(1);
            self.value(path.member(&key), level + 1);
            // `jsonb` has its keys in this order, and so has what we write. Where it is broken, others wrote.
            self.sure &= last_key.is_none_or(|last| (last.len(), &*last) < (key.len(), &*key));
            last_key = Some(key);
            if self.rest.starts_with(',') {
                self.take(1);
            }
        }
        self.take(1);
    }

    fn array(&mut self, path: Path, level: usize) {
        if level > MAX_LEVELS + 1 {
            return self.skip();
        }
        let path = path.element();
        self.take(1);
        while !self.rest.is_empty() && !self.rest.starts_with(']') {
            self.value(path, level + 1);
            if self.rest.starts_with(',') {
                self.take(1);
            }
        }
        self.take(1);
    }

    /// Goes behind a container, however deep it is.
    fn skip(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.rest.as_bytes().first() {
                Some(b'"') => {
                    self.string();
                }
                Some(byte) => {
                    match byte {
                        b'{' | b'[' => open += 1,
                        b'}' | b']' => open -= 1,
                        _ => {}
                    }
                    let end =
                        self.rest[1..].find(['"', '{', '}', '[', ']']).map_or(self.rest.len(), |end| end + 1);
                    if open == 0 {
                        self.take(1);
                        return;
                    }
                    self.take(end);
                }
                None => return,
            }
        }
    }

    /// Takes a string with its quotes.
    fn string(&mut self) -> &'t str {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => return self.take(end + 1),
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return self.take(bytes.len()),
            }
        }
    }

    /// Takes so many bytes.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }
}

/// What a string with its quotes stands for. One that has no value stands for its text, as where it is read.
fn value_of_string(raw: &str) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned()))
    } else {
        Cow::Borrowed(inner)
    }
}
