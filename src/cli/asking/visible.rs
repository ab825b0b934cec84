//! What a server sends, made harmless for a terminal: it may have an escape sequence in it, or marks that turn the
//! direction of writing.

/// A text of somebody else for a terminal: what would move the cursor, change colours or turn the direction of writing is
/// shown as an escape.
pub(in crate::cli) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmless(character) {
            out.push(character);
        } else {
            out.extend(character.escape_unicode());
        }
    }
    out
}

/// Format characters (Unicode's category Cf) take no room, and some turn the direction of what follows.
pub(super) fn is_harmless(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}' | '\u{115f}' | '\u{1160}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !character.is_control() && !is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_text_is_shown_as_an_escape() {
        assert_eq!(visible("node_auth/é 🦀 日本"), "node_auth/é 🦀 日本");
        assert_eq!(visible("a\u{1b}[31m\r\n\t\u{7}b"), r"a\u{1b}[31m\u{d}\u{a}\u{9}\u{7}b");
        for hidden in
            ["\u{9b}", "\u{7f}", "\u{202e}", "\u{2066}", "\u{200f}", "\u{200b}", "\u{feff}", "\u{e0041}"]
        {
            assert!(visible(hidden).starts_with("\\u{"), "{hidden:?}");
        }
    }
}
