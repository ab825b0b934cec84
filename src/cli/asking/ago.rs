//! How long ago, by the server's clock: ours may be wrong by hours.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::visible;

/// An instant of the server, as people speak of it. One that no calendar has is shown as it is.
pub(in crate::cli) fn ago(instant: &str, now: OffsetDateTime) -> String {
    let Ok(at) = OffsetDateTime::parse(instant, &Rfc3339) else { return visible(instant) };
    // The field that tells the server's time knows no parts of a second.
    match (now - at).whole_seconds() {
        -2..=0 => "now".to_owned(),
        seconds if seconds > 0 => format!("{} ago", rough(seconds)),
        seconds => format!("in {}", rough(seconds.saturating_neg())),
    }
}

fn rough(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_roughly() {
        let now = OffsetDateTime::parse("2026-07-01T12:00:00Z", &Rfc3339).unwrap();
        for (instant, said) in [
            ("2026-07-01T11:59:48.000000Z", "12s ago"),
            ("2026-07-01T12:00:00.900000Z", "now"),
            ("2026-07-01T12:00:00.000000Z", "now"),
            ("2026-07-01T11:58:00.000000Z", "2m ago"),
            ("2026-07-01T09:59:00.000000Z", "2h ago"),
            ("2026-06-01T12:00:00.000000Z", "30d ago"),
            ("2026-07-01T12:05:00.000000Z", "in 5m"),
            ("infinity", "infinity"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(ago(instant, now), said);
        }
    }
}
