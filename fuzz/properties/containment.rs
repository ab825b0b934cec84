//! Containment: lines of JSON, of which each is compared with each.
//!
//! It is what PostgreSQL's manual says of `@>` (section 8.14.3), done once more in the plainest way, from the text on. It has
//! the laws of "is a part of". And what the catalog finds by its index is what it holds of, node by node.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use onex_registry::node::containment::contains;
use onex_registry::node::fault::Path;
use onex_registry::node::{
    DiscoveryQuery, Faults, Horizon, Json, JsonObject, JsonText, NodeKey, NodeRecord, PageLimit, Revision,
    Timestamp, Ttl,
};
use onex_registry::registry::catalog::{Catalog, Conditions, Fleet};
use onex_registry::store::{Loaded, Position};
use serde_json::value::RawValue;

/// As much as is interesting, and is not slow to compare in the plainest way.
const MAX_BYTES: usize = 4 * 1024;
const MAX_VALUES: usize = 4;

/// Checks some values.
pub fn holds(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > MAX_BYTES {
        return;
    }
    let values: Vec<Value> = text.lines().take(MAX_VALUES).filter_map(Value::read).collect();
    for value in &values {
        assert!(contains(&value.json, &value.json), "{} contains itself", value.text);
        let part = value.plain.part(&mut bits_of(input)).to_string();
        let part = Value::read(&part).unwrap_or_else(|| panic!("a part of {} is JSON: {part}", value.text));
        assert!(value.contains(&part), "{} contains its part {}", value.text, part.text);
    }
    for one in &values {
        for other in &values {
            for third in values.iter().filter(|third| one.contains(other) && other.contains(third)) {
                assert!(one.contains(third), "{} > {} > {}", one.text, other.text, third.text);
            }
        }
    }
    what_is_found_is_what_holds(&values);
}

/// Checks that two texts are the same value.
///
/// # Panics
/// If they aren't.
pub fn are_equal(one: &str, other: &str) {
    if let (Some(one_value), Some(other_value)) = (Plain::read(one, 1), Plain::read(other, 1)) {
        assert_eq!(one_value, other_value, "{one} and {other}");
    }
}

/// A value as the registry reads it, and as it is read here.
struct Value {
    text: String,
    json: Json,
    plain: Plain,
    /// If a query may ask for it.
    wanted: Option<JsonObject>,
    /// Whether it is not nested deeper than a query may go.
    is_shallow: bool,
}

impl Value {
    fn read(text: &str) -> Option<Self> {
        let json = Json::read_stored(text)?;
        let plain = Plain::read(text, 1)?;
        let raw = serde_json::from_str::<&RawValue>(text).ok()?;
        let mut faults = Faults::at_most(1);
        Json::read(raw, &Path::Root, &mut faults);
        let wanted = JsonObject::read(raw, &Path::Root, &mut Faults::at_most(1));
        Some(Self { text: text.to_owned(), json, plain, wanted, is_shallow: faults.is_empty() })
    }

    /// Asks the registry, and compares its answer with ours.
    fn contains(&self, wanted: &Self) -> bool {
        let answer = contains(&self.json, &wanted.json);
        // What is deeper is not looked at, and can't be asked for.
        if wanted.is_shallow {
            assert_eq!(answer, self.plain.contains(&wanted.plain), "{} @> {}", self.text, wanted.text);
        }
        answer
    }
}

// --- The catalog -----------------------------------------------------------------------------------------------------

fn what_is_found_is_what_holds(values: &[Value]) {
    let own = Nodes::of(values.iter().enumerate().map(|(index, value)| {
        // The other column, too, is that of somebody.
        (index.to_string(), value.text.clone(), values[values.len() - 1 - index].text.clone())
    }));
    for wanted in values.iter().filter_map(|value| value.wanted.as_ref()) {
        own.are_found(wanted);
        REAL.are_found(wanted);
    }
}

/// Nodes of a real fleet.
static REAL: LazyLock<Nodes> = LazyLock::new(|| {
    let lines = include_str!("../../tests/data/onex_nodes.jsonl").lines();
    Nodes::of(lines.map(|line| {
        let node: BTreeMap<&str, &RawValue> =
            serde_json::from_str(line).expect("the file has a node in each line");
        let text = |name: &str| node.get(name).map_or("{}", |value| value.get()).to_owned();
        (text("node_id"), text("capabilities"), text("metadata"))
    }))
});

struct Nodes {
    fleet: Arc<Fleet>,
    /// By id: capabilities and metadata.
    columns: BTreeMap<String, [Plain; 2]>,
}

impl Nodes {
    fn of(nodes: impl Iterator<Item = (String, String, String)>) -> Self {
        let catalog = Catalog::new(Ttl::from_seconds(90));
        let mut loading = catalog.load();
        let mut columns = BTreeMap::new();
        for (id, capabilities, metadata) in nodes {
            loading.take(record(&id, &capabilities, &metadata));
            let read = |text: &str| Plain::read(text, 1).expect("it was read before");
            columns.insert(id, [read(&capabilities), read(&metadata)]);
        }
        let horizon = Horizon::at(Timestamp::NEG_INFINITY);
        assert!(loading.finish(&Loaded { position: Position::default(), horizon }).is_ok());
        Self { fleet: catalog.fleet().expect("it is loaded"), columns }
    }

    fn are_found(&self, wanted: &JsonObject) {
        let plain = Plain::read(wanted.as_str(), 1).expect("it was read before");
        let mut queries = [DiscoveryQuery::default(), DiscoveryQuery::default()];
        queries[0].capabilities = Some(wanted.clone());
        queries[1].metadata = Some(wanted.clone());
        for (column, mut query) in queries.into_iter().enumerate() {
            query.limit = PageLimit::of::<{ PageLimit::MAX }>();
            let found = self.fleet.discover(&query).nodes;
            let found: Vec<&str> = found.iter().map(|node| node.record.node_id().as_str()).collect();
            let expected: Vec<&str> = self
                .columns
                .iter()
                .filter(|(_, own)| own[column].contains(&plain))
                .map(|(id, _)| id.as_str())
                .collect();
            assert_eq!(found, expected, "column {column} @> {}", wanted.as_str());
            let conditions = Conditions::of(&query);
            self.fleet.for_each(|node| {
                let expected = expected.contains(&node.id().as_str());
                assert_eq!(conditions.hold(node), expected, "{} @> {}", node.id(), wanted.as_str());
            });
        }
    }
}

fn record(id: &str, capabilities: &str, metadata: &str) -> NodeRecord {
    let now = Timestamp::NEG_INFINITY;
    NodeRecord {
        node_id: NodeKey::new(id).expect("it is short"),
        node_type: "effect".to_owned(),
        node_version: "1.0.0".to_owned(),
        capabilities: JsonText::from_database(capabilities),
        endpoints: JsonText::from_database("{}"),
        metadata: JsonText::from_database(metadata),
        health_endpoint: None,
        last_heartbeat: None,
        registered_at: now,
        updated_at: now,
        ttl_seconds: None,
        maintenance: None,
        revision: Revision::ZERO,
    }
}

// --- The plainest way ------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Plain>),
    Object(BTreeMap<String, Plain>),
}

/// No query is nested as deep as this.
const DEEP: usize = 40;

impl Plain {
    /// `None` for what is no JSON, and for what `jsonb` can't hold.
    fn read(text: &str, level: usize) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        Some(match text.as_bytes().first()? {
            b'n' if text == "null" => Self::Null,
            b't' if text == "true" => Self::Bool(true),
            b'f' if text == "false" => Self::Bool(false),
            b'"' => Self::String(string(text)?),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let items = if level > DEEP { Vec::new() } else { items };
                Self::Array(
                    items.iter().map(|item| Self::read(item.get(), level + 1)).collect::<Option<_>>()?,
                )
            }
            b'{' => {
                // The last of equal keys wins.
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
                let members = if level > DEEP { BTreeMap::new() } else { members };
                let member = |(key, value): (String, &RawValue)| {
                    (!key.contains('\0')).then_some(())?;
                    Some((key, Self::read(value.get(), level + 1)?))
                };
                Self::Object(members.into_iter().map(member).collect::<Option<_>>()?)
            }
            _ => Self::Number(Number::read(text)?),
        })
    }

    fn contains(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Array(items), Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_)) => {
                items.contains(wanted)
            }
            _ => self.has(wanted),
        }
    }

    fn has(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Object(own), Self::Object(wanted)) => {
                wanted.iter().all(|(key, value)| own.get(key).is_some_and(|own| own.has(value)))
            }
            (Self::Array(own), Self::Array(wanted)) => {
                wanted.iter().all(|wanted| own.iter().any(|own| own.has(wanted)))
            }
            _ => self == wanted,
        }
    }

    /// Something that it contains: without some members and elements, others twice, and in another order.
    fn part(&self, bits: &mut impl FnMut() -> u8) -> Self {
        match self {
            Self::Array(items) => {
                let mut part = Vec::new();
                for item in items {
                    for _ in 0..bits() % 3 {
                        part.insert(0, item.part(bits));
                    }
                }
                Self::Array(part)
            }
            Self::Object(members) => {
                let mut part = BTreeMap::new();
                for (key, value) in members {
                    if bits().is_multiple_of(2) {
                        part.insert(key.clone(), value.part(bits));
                    }
                }
                Self::Object(part)
            }
            scalar => scalar.clone(),
        }
    }
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |text: &str| serde_json::to_string(text).expect("a string can be written");
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => number.fmt(f),
            Self::String(string) => f.write_str(&text(string)),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[ {} ]", items.join(" , "))
            }
            Self::Object(members) => {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{}\t:{value}", text(key))).collect();
                write!(f, "{{{}}}", members.join(","))
            }
        }
    }
}

fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok().filter(|string: &String| !string.contains('\0'))
}

/// A decimal number: its digits, neither beginning nor ending with a zero, and the power of ten of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    is_negative: bool,
    digits: String,
    exponent: i32,
}

impl Number {
    /// `None` for those that would be longer than any that may be registered or asked for.
    fn read(text: &str) -> Option<Self> {
        // The grammar is that of whoever read the text around it.
        serde_json::from_str::<&RawValue>(text).ok()?;
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i32 = exponent.parse().ok().filter(|exponent| is_moderate(*exponent))?;
        if mantissa.len() > MAX_DIGITS {
            return None;
        }
        let mut number = Self {
            is_negative,
            digits: format!("{whole}{fraction}").trim_start_matches('0').to_owned(),
            exponent: exponent - i32::try_from(fraction.len()).ok()?,
        };
        while number.digits.ends_with('0') {
            number.digits.pop();
            number.exponent += 1;
        }
        let zero = Self { is_negative: false, digits: String::new(), exponent: 0 };
        if number.digits.is_empty() {
            Some(zero)
        } else {
            Some(number).filter(|number| is_moderate(number.exponent))
        }
    }
}

/// With so many digits and such exponents, none is longer in plain form than what may be registered.
const MAX_DIGITS: usize = 100;

fn is_moderate(exponent: i32) -> bool {
    exponent.abs() <= 200
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.is_negative { "-" } else { "" };
        let digits = if self.digits.is_empty() { "0" } else { &self.digits };
        write!(f, "{sign}{digits}E{:+}", self.exponent)
    }
}

/// Bytes that are the same for the same input, and differ for others.
fn bits_of(input: &[u8]) -> impl FnMut() -> u8 {
    let mut state =
        input.iter().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add((*byte).into()));
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24).to_le_bytes()[0]
    }
}
