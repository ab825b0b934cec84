//! JSON as it was served, in one line or many. It is not read and written anew: numbers stay what they are, to the last
//! digit.

use std::fmt::Write as _;

use super::visible::is_harmless;

/// Without blanks between the tokens.
pub(in crate::cli) fn one_line(json: &str) -> String {
    laid_out(json, None)
}

/// A member a line.
pub(in crate::cli) fn indented(json: &str) -> String {
    laid_out(json, Some(0))
}

/// What would change a terminal, as escapes of JSON: the same value, in other letters.
pub(in crate::cli) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if is_harmless(character) || character == '\n' {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // To memory: this can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

fn laid_out(json: &str, mut depth: Option<usize>) -> String {
    let mut out = String::with_capacity(json.len());
    let mut tokens = json.char_indices().peekable();
    while let Some((start, character)) = tokens.next() {
        match character {
            '"' => {
                let mut is_escaped = false;
                let end = tokens.by_ref().find(|(_, character)| {
                    let ends = *character == '"' && !is_escaped;
                    is_escaped = *character == '\\' && !is_escaped;
                    ends
                });
                out.push_str(&json[start..end.map_or(json.len(), |(at, _)| at + 1)]);
            }
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(character);
                while tokens.next_if(|(_, next)| next.is_ascii_whitespace()).is_some() {}
                if let Some((_, close)) = tokens.next_if(|(_, next)| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth = depth.map(|depth| depth + 1);
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.map(|depth| depth.saturating_sub(1));
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(if depth.is_some() { ": " } else { ":" }),
            other => out.push(other),
        }
    }
    out
}

fn new_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_stays_what_it_is() {
        let json = " { \"a\\\"b\" : [1.10, 12345678901234567890123,\n{} , [ ] ],\"c\\\\\":\"x , y: {\" } ";
        assert_eq!(one_line(json), r#"{"a\"b":[1.10,12345678901234567890123,{},[]],"c\\":"x , y: {"}"#);
        let lines = "{\n  \"a\\\"b\": [\n    1.10,\n    12345678901234567890123,\n    {},\n    []\n  ],\n  \"c\\\\\": \"x , y: {\"\n}";
        assert_eq!(indented(json), lines);
    }

    #[test]
    fn what_changes_a_terminal_is_escaped_and_the_value_is_the_same() {
        let json = "{\"a\":\"\u{9b}31m\u{202e}é\u{e0041}\"}";
        let shown = escaped(json);
        assert_eq!(shown, r#"{"a":"\u009b31m\u202eé\udb40\udc41"}"#);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(json));
    }
}
