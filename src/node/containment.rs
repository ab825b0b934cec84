//! JSON containment as PostgreSQL's `jsonb @>` defines it (manual, section 8.14.3).

use super::decimal::equal_by_value;
use super::json::Json;

/// Whether `container @> wanted`.
///
/// Values of one kind only: an object contains an object if it has each of its members with a value that contains
/// it; an array contains an array if each of its elements is contained in one of its own, order and number aside;
/// scalars contain their equals. The one exception: at the top level an array may contain a scalar itself.
///
/// The depth of recursion is that of `wanted`, so what is stored may be nested at will.
#[must_use]
pub fn contains(container: &Json, wanted: &Json) -> bool {
    match (container, wanted) {
        (Json::Array(items), scalar) if is_scalar(scalar) => {
            items.iter().any(|item| same_scalar(item, scalar))
        }
        _ => contains_in_kind(container, wanted),
    }
}

fn contains_in_kind(container: &Json, wanted: &Json) -> bool {
    match (container, wanted) {
        (Json::Object(_), Json::Object(members)) => members
            .iter()
            .all(|(key, value)| container.get(key).is_some_and(|own| contains_in_kind(own, value))),
        (Json::Array(own), Json::Array(items)) => {
            items.iter().all(|item| own.iter().any(|own| contains_in_kind(own, item)))
        }
        _ => same_scalar(container, wanted),
    }
}

fn is_scalar(value: &Json) -> bool {
    !matches!(value, Json::Array(_) | Json::Object(_))
}

fn same_scalar(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => equal_by_value(a, b),
        (Json::Array(_) | Json::Object(_), _) => false,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(container: &str, wanted: &str) -> bool {
        contains(&Json::read_stored(container).unwrap(), &Json::read_stored(wanted).unwrap())
    }

    /// The examples of the manual, and the corners. The integration tests ask PostgreSQL about random ones.
    #[test]
    fn containment_is_that_of_the_manual() {
        for (container, wanted, expected) in [
            (r#""foo""#, r#""foo""#, true),
            ("[1, 2, 3]", "[1, 3]", true),
            ("[1, 2, 3]", "[3, 1]", true),
            ("[1, 2, 3]", "[1, 2, 2]", true),
            (r#"{"product": "PostgreSQL", "version": 9.4, "jsonb": true}"#, r#"{"version": 9.4}"#, true),
            ("[1, 2, [1, 3]]", "[1, 3]", false),
            ("[1, 2, [1, 3]]", "[[1, 3]]", true),
            ("[1, 2, [1, 3]]", "[[3]]", true),
            (r#"{"foo": {"bar": "baz"}}"#, r#"{"bar": "baz"}"#, false),
            (r#"{"foo": {"bar": "baz"}}"#, r#"{"foo": {}}"#, true),
            (r#"["foo", "bar"]"#, r#""bar""#, true),
            (r#""bar""#, r#"["bar"]"#, false),
            (r#"{"a": ["x"]}"#, r#"{"a": "x"}"#, false),
            ("[[1]]", "1", false),
            ("[[1]]", "[1]", false),
            (r#"{"a": 1}"#, r#"{"a": 1.0}"#, true),
            (r#"{"a": 100}"#, r#"{"a": 1e2}"#, true),
            (r#"{"a": null}"#, r#"{"a": null}"#, true),
            (r#"{"a": null}"#, r#"{"b": null}"#, false),
            (r#"{"a": "1"}"#, r#"{"a": 1}"#, false),
            ("[]", "[]", true),
            ("{}", "[]", false),
            ("[{}]", "{}", false),
            (r#"[{"a":1,"b":2}]"#, r#"[{"a":1},{"b":2}]"#, true),
        ] {
            assert_eq!(holds(container, wanted), expected, "{container} @> {wanted}");
        }
    }
}
