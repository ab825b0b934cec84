//! Making a key: a secret from the operating system, and the lines that the file needs for it.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use super::key::{Fingerprint, KeyName, Role};
use super::{Pattern, file};
use crate::secret::Secret;

/// By this, people and scanners of repositories see what a secret is for.
const PREFIX: &str = "onex_";
/// As many as SHA-256 has: fewer would be the weaker part.
const SECRET_BYTES: usize = 32;

/// A key that was made a moment ago.
#[derive(Debug)]
pub struct NewKey {
    /// What the client has to show. It is kept nowhere.
    pub secret: Secret,
    /// What the file has to hold, in TOML.
    pub entry: String,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// If these can't stand together in the file, or the operating system gives no random bytes.
    pub fn make(
        name: &KeyName,
        roles: &[Role],
        node_ids: &[Pattern],
        expires: Option<OffsetDateTime>,
    ) -> anyhow::Result<Self> {
        let role = roles.iter().max().copied().unwrap_or(Role::Read);
        if let Some(reason) = file::contradiction(role, node_ids) {
            anyhow::bail!("--node-ids {reason}");
        }
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("the operating system gives no random bytes: {error}"))?;
        let secret = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let mut entry = format!(
            "[[keys]]\nname = {}\nsha256 = \"{}\"\nroles = [\"{}\"]\n",
            quoted(name.as_str()),
            Fingerprint::of(secret.as_bytes()).to_hex(),
            role.as_str()
        );
        if !node_ids.is_empty() {
            let patterns: Vec<String> = node_ids.iter().map(|pattern| quoted(pattern.as_str())).collect();
            entry += "node_ids = [";
            entry += &patterns.join(", ");
            entry += "]\n";
        }
        if let Some(at) = expires {
            entry += "expires = ";
            entry += &quoted(&humantime::format_rfc3339_seconds(at.into()).to_string());
            entry.push('\n');
        }
        Ok(Self { secret: secret.into(), entry })
    }
}

/// When a key expires: an instant of RFC 3339, or a duration from now.
///
/// # Errors
/// What it should look like.
pub fn expiry(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, &'static str> {
    let from_now = |duration: Duration| now.checked_add(duration.try_into().ok()?);
    file::instant(text)
        .or_else(|| humantime::parse_duration(text).ok().and_then(from_now))
        .filter(|at| file::is_sane_expiry(*at))
        .ok_or("must be an instant such as 2030-01-31T12:00:00Z, or a duration from now such as 90d")
}

/// A basic string of TOML. What is put in has no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    #[test]
    fn what_is_made_can_be_put_into_the_file_and_shown() {
        let name = KeyName::parse("billing").unwrap();
        let patterns = ["billing-*", "q\"\\'é*"].map(|pattern| Pattern::parse(pattern).unwrap());
        let expires = expiry("90d", now()).unwrap();
        let new = NewKey::make(&name, &[Role::Read, Role::Write], &patterns, Some(expires)).unwrap();
        let secret = new.secret.expose();
        assert!(secret.starts_with("onex_") && secret.len() == 5 + 43, "{}", secret.len());
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(!new.entry.contains(secret) && !format!("{new:?}").contains(secret));
        let set = file::parse(new.entry.as_bytes(), Path::new("keys")).unwrap();
        let key = set.with(&Fingerprint::of(secret.as_bytes())).expect("it is known by its secret");
        assert_eq!((key.name(), key.role(), &key.node_ids[..]), (&name, Role::Write, &patterns[..]));
        assert_eq!(key.expires(), Some(expires));
        let other = NewKey::make(&name, &[], &[], None).unwrap();
        assert_ne!(other.secret.expose(), secret);
        assert!(other.entry.contains("roles = [\"read\"]"), "who asks for nothing gets the least");
    }

    #[test]
    fn an_expiry_is_an_instant_or_a_duration() {
        assert_eq!(expiry("1970-01-02T01:00:00+01:00", now()).unwrap().unix_timestamp(), 86_400);
        assert_eq!(expiry("1h", now()), Ok(now() + Duration::from_hours(1)));
        for wrong in
            ["", "soon", "2030-01-01", "2030-01-01T00:00:00", "2030-02-30T00:00:00Z", "9000000000000000d"]
        {
            assert!(expiry(wrong, now()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_that_would_mean_nothing_are_refused() {
        let (name, pattern) = (KeyName::parse("k").unwrap(), [Pattern::parse("a*").unwrap()]);
        for roles in [&[][..], &[Role::Read], &[Role::Write, Role::Admin]] {
            assert!(NewKey::make(&name, roles, &pattern, None).is_err(), "{roles:?}");
        }
    }
}
