//! Where a page ended, as an opaque text that is bound to the question it belongs to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::id::NodeKey;

/// Changes when the form of cursors or fingerprints does.
const FORM: u8 = 1;
/// Form, fingerprint, checksum.
const HEADER_BYTES: usize = 1 + 8 + 8;

/// The end of a page: the last id on it, and the fingerprint of its query.
///
/// Keyset pagination: the next page begins after that id, whatever was registered or removed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last id of the page.
    pub after: NodeKey,
    /// [`super::DiscoveryQuery::fingerprint`]
    pub fingerprint: u64,
}

impl Cursor {
    /// The text for the client.
    #[must_use]
    pub fn encode(&self) -> String {
        let id = self.after.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + id.len());
        bytes.push(FORM);
        bytes.extend(self.fingerprint.to_le_bytes());
        bytes.extend(checksum(self.fingerprint, id).to_le_bytes());
        bytes.extend(id);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text that [`Cursor::encode`] made; `None` for any other. A cursor holds no secret: who forges a good
    /// one chooses where a page begins, and no more.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&form, rest) = bytes.split_first()?;
        let (fingerprint, rest) = rest.split_first_chunk::<8>()?;
        let (sum, id) = rest.split_first_chunk::<8>()?;
        let fingerprint = u64::from_le_bytes(*fingerprint);
        if form != FORM || u64::from_le_bytes(*sum) != checksum(fingerprint, id) {
            return None;
        }
        let after = NodeKey::new(std::str::from_utf8(id).ok()?)?;
        Some(Self { after, fingerprint })
    }
}

fn checksum(fingerprint: u64, id: &[u8]) -> u64 {
    xxh3_64(id).rotate_left(17) ^ fingerprint.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for id in ["", "a", "🦀/%?#", &"é".repeat(255)] {
            let cursor = Cursor { after: NodeKey::new(id).unwrap(), fingerprint: 42 };
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = Cursor { after: NodeKey::new("node").unwrap(), fingerprint: 7 }.encode();
        let mut flipped = good.clone().into_bytes();
        flipped[5] ^= 1;
        let flipped = String::from_utf8(flipped).unwrap();
        for text in
            ["", "x", "bm9uc2Vuc2U", &good[..good.len() - 2], &format!("{good}AA"), &flipped, "' OR 1=1 --"]
        {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
