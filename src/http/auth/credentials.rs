//! What a client shows: the header field `Authorization` (RFC 9110, section 11.6.2; RFC 6750, section 2.1).

use axum::http::{HeaderMap, header};

/// Why what a client shows can't be read. Nothing of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The token that a client shows, if it shows one. Another scheme than ours shows nothing (RFC 6750, section 3.1).
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        // Which of them counts, a proxy before us may see otherwise.
        return Err(Malformed("must be there once"));
    }
    let Ok(text) = value.to_str() else { return Err(Malformed("must be ASCII")) };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Ok(None);
    }
    let token = token.trim_start_matches(' ');
    if is_token(token) { Ok(Some(token)) } else { Err(Malformed("must be: Bearer, a blank, and a key")) }
}

/// `b64token` of RFC 6750, section 2.1.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        token(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn a_token_is_shown_once_and_by_the_rules() {
        assert_eq!(read(&[]), Ok(None));
        for (shown, expected) in [
            (&b"Bearer abc"[..], "abc"),
            (b"bearer abc", "abc"),
            (b"BEARER   onex_-._~+/==", "onex_-._~+/=="),
        ] {
            assert_eq!(read(&[shown]), Ok(Some(expected.to_owned())));
        }
        for other in [&b"Basic YTpi"[..], b"Digest username=\"a\"", b"", b"Bearerabc", b"Token abc"] {
            assert_eq!(read(&[other]), Ok(None), "{other:?}");
        }
        for malformed in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer =",
            b"Bearer a b",
            b"Bearer a=b",
            b"Bearer a,b",
            b"Bearer \"a\"",
            b"Bearer\ta",
            b"Bearer \xC3\xA9",
        ] {
            let tab_is_no_blank = malformed.contains(&b'\t');
            assert!(tab_is_no_blank || read(&[malformed]).is_err(), "{malformed:?}");
        }
        assert!(read(&[b"Bearer a", b"Bearer a"]).is_err(), "twice the same is twice");
        assert!(read(&[b"Basic YTpi", b"Bearer a"]).is_err());
    }
}
