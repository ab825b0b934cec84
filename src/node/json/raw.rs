//! Arrays and objects as raw text of their parts.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The elements of an array, up to a number of them.
#[derive(Debug)]
pub struct Elements<'t> {
    /// The first ones.
    pub items: Vec<&'t RawValue>,
    /// How many there are in all.
    pub count: usize,
}

/// The elements of the array that `text` is; none if it isn't one. At most `keep` are kept, the others are counted.
#[must_use]
pub fn elements(text: &str, keep: usize) -> Elements<'_> {
    struct Collect(usize);
    impl<'de> Visitor<'de> for Collect {
        type Value = Elements<'de>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
            let mut found = Elements { items: Vec::new(), count: 0 };
            while found.count < self.0 {
                let Some(item) = seq.next_element::<&RawValue>()? else { return Ok(found) };
                found.items.push(item);
                found.count += 1;
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {
                found.count += 1;
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_seq(Collect(keep))
        .unwrap_or(Elements { items: Vec::new(), count: 0 })
}

/// The members of the object that `text` is, as they stand there, up to a number of them; none if it isn't one.
pub(super) fn members(text: &str, keep: usize) -> Vec<(&RawValue, &RawValue)> {
    struct Collect(usize);
    impl<'de> Visitor<'de> for Collect {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry::<&RawValue, &RawValue>()? {
                if members.len() < self.0 {
                    members.push(member);
                }
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Collect(keep)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_beyond_the_bound_are_counted_and_not_kept() {
        let found = elements("[1,2,3,4]", 2);
        assert_eq!((found.items.len(), found.count), (2, 4));
        assert_eq!(elements("{}", 2).count, 0);
    }
}
