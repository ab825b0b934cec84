//! Cursors: lines of text, of which the first is a cursor, the second and third are query strings, and the fourth is an id.
//!
//! What can be read is written in one way only. A cursor of a query continues that query and no other.

use onex_registry::http::parsing;
use onex_registry::node::{Cursor, DiscoveryQuery, NodeKey};

use super::query_string::{ask_the_same, says};

/// Checks a cursor, and cursors of queries.
pub fn holds(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (cursor, one, other, id) = (line(), line(), line(), line());

    if let Some(read) = Cursor::decode(cursor) {
        assert_eq!(read.encode(), cursor, "there is one text for a cursor");
    }
    let Some(after) = NodeKey::new(id) else { return };
    let queries = [one, other].map(|text| parsing::discovery(text).ok());
    let [Some(own), Some(others)] = &queries else { return };
    // These must not stand together with a cursor.
    if ["cursor", "since"].iter().any(|name| says(one, name) || says(other, name)) {
        return;
    }
    let made = Cursor { after: after.clone(), fingerprint: own.query.fingerprint() };
    let encoded = made.encode();
    assert_eq!(Cursor::decode(&encoded), Some(made), "a cursor comes back as it was");

    let next = follow(one, &encoded).expect("a cursor continues its query");
    assert_eq!(next.after, Some(after));
    assert!(ask_the_same(&next, &own.query));
    let same = ask_the_same(&own.query, &others.query);
    assert_eq!(follow(other, &encoded).is_some(), same, "{one} {other}");

    // Whatever byte of it is another, it is no cursor of that query any more.
    let at = input.len() % encoded.len();
    let mut broken = encoded.into_bytes();
    broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
    let broken = String::from_utf8(broken).expect("it is ASCII");
    assert!(follow(one, &broken).is_none(), "{one} {broken}");
}

fn follow(query: &str, cursor: &str) -> Option<DiscoveryQuery> {
    parsing::discovery(&format!("{query}&cursor={cursor}")).ok().map(|question| question.query)
}
