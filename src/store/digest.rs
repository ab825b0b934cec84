//! A hash over the columns of a registration, which PostgreSQL and we compute alike.
//!
//! SHA-256 (which PostgreSQL has built in, also where MD5 is forbidden), the first eight bytes as a big-endian number.
//! Each column is its length in bytes, a colon and its text, or `-` if it is NULL. JSON is as PostgreSQL shows it.

use sha2::{Digest as _, Sha256};

use crate::node::NodeRecord;

/// The hash of a record's columns: type, version, the three JSON columns, health endpoint, TTL, maintenance.
#[must_use]
pub fn of_columns(record: &NodeRecord) -> u64 {
    let mut hash = Sha256::new();
    let mut add = |text: Option<&str>| match text {
        Some(text) => {
            hash.update(text.len().to_string());
            hash.update(":");
            hash.update(text);
        }
        None => hash.update("-"),
    };
    add(Some(&record.node_type));
    add(Some(&record.node_version));
    for json in [&record.capabilities, &record.endpoints, &record.metadata] {
        add(Some(&as_postgresql_shows(json.as_str())));
    }
    add(record.health_endpoint.as_deref());
    add(record.ttl_seconds.map(|seconds| seconds.to_string()).as_deref());
    add(record.maintenance.as_deref());
    let hash = hash.finalize();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Compact JSON with a blank after each comma and each colon outside of strings (PostgreSQL, `jsonb_out`).
fn as_postgresql_shows(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() + compact.len() / 8);
    let (mut in_string, mut escaped) = (false, false);
    for c in compact.chars() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ',' | ':' if !in_string => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_follow_commas_and_colons_outside_of_strings() {
        let compact = r#"{"a":[1,"x,y: \",\\"],"b":{}}"#;
        assert_eq!(as_postgresql_shows(compact), r#"{"a": [1, "x,y: \",\\"], "b": {}}"#);
    }
}
