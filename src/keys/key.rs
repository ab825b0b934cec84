//! A key: its name, what it may do, and to which nodes.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::pattern::Pattern;

/// A key as the file has it. The secret is not there: who shows it proves that they know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) name: KeyName,
    pub(super) fingerprint: Fingerprint,
    /// The highest of its roles: each has all that the one below it has.
    pub(super) role: Role,
    /// Which nodes it may write to; none: all.
    pub(super) node_ids: Vec<Pattern>,
    pub(super) expires: Option<OffsetDateTime>,
}

impl Key {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it may change this node: if it may write, and one of its patterns covers the id, or it has none.
    #[must_use]
    pub fn may_change(&self, node_id: &str) -> bool {
        match self.role {
            Role::Read => false,
            Role::Write => {
                self.node_ids.is_empty() || self.node_ids.iter().any(|pattern| pattern.covers(node_id))
            }
            Role::Admin => true,
        }
    }

    /// Until when it is valid; `None`: for ever.
    #[must_use]
    pub fn expires(&self) -> Option<OffsetDateTime> {
        self.expires
    }

    pub(super) fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// What a key may do. Each role has all that the one before it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// To read and to watch.
    Read,
    /// To register, keep alive, take out of service and deregister nodes that its patterns cover.
    Write,
    /// The same for all nodes.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Its name in the file and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn from_name(name: &str) -> Result<Self, &'static str> {
        Self::ALL.into_iter().find(|role| role.as_str() == name).ok_or("must be one of read, write, admin")
    }
}

/// The longest name, in bytes: as long as the name of a host may be (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 255;

/// The name of a key. It is the actor of events and stands in logs: visible ASCII without what would have to be escaped
/// there, and none that means somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@+".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_plain) {
            return Err("must have 1 to 255 of the characters A-Z a-z 0-9 - . _ : / @ +");
        }
        // Events have these for actors who are no keys.
        if name == "anonymous" || name == "registry" || name.starts_with("sql:") {
            return Err(
                "must not be 'anonymous' or 'registry', or begin with 'sql:', which mean others in events",
            );
        }
        Ok(Self(name.into()))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The SHA-256 of a secret. Nobody finds 32 random bytes from it, but it is not shown either.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        if rest.is_empty() { bytes.try_into().ok().map(Self) } else { None }
    }

    /// As 64 hexadecimal digits, for the file.
    #[must_use]
    pub fn to_hex(self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut out, byte| {
            // Writing to a String can't fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
    }

    /// Compares in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_means_nobody_else() {
        let longest = "x".repeat(255);
        for name in ["a", "billing-1", "spiffe://td/ns/sa", "ops@example.org", "Sql:x", "registry2", &longest]
        {
            assert_eq!(KeyName::parse(name).map(|name| name.as_str().to_owned()), Ok(name.to_owned()));
        }
        let too_long = "x".repeat(256);
        for name in ["", " a", "a b", "a\n", "é", "a\"b", "anonymous", "registry", "sql:ada", &too_long] {
            assert!(KeyName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        // FIPS 180-4, the example "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Fingerprint::of(b"abc").to_hex(), abc);
        assert!(Fingerprint::from_hex(&abc.to_uppercase()).unwrap() == Fingerprint::of(b"abc"));
        for wrong in
            ["", "ba", &abc[1..], &format!("{abc}00"), &abc.replace('f', "g"), &abc.replace("ba", "é")]
        {
            assert!(Fingerprint::from_hex(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_role_has_all_that_those_below_it_have() {
        assert!(Role::Admin > Role::Write && Role::Write > Role::Read);
        let key = |role, node_ids: &[&str]| Key {
            name: KeyName::parse("k").unwrap(),
            fingerprint: Fingerprint::of(b"x"),
            role,
            node_ids: node_ids.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            expires: None,
        };
        assert!(!key(Role::Read, &[]).may_change("a"));
        assert!(key(Role::Write, &[]).may_change("a"));
        assert!(key(Role::Write, &["b-*", "a"]).may_change("a"));
        assert!(!key(Role::Write, &["b-*"]).may_change("a"));
        assert!(key(Role::Admin, &[]).may_change("a"));
    }
}
