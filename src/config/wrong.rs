//! What is wrong with settings: collected, and said all at once.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Settings;

/// All that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadSettings(pub(super) Vec<String>);

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Wrong(Vec<String>);

impl Wrong {
    /// The settings, if nothing is.
    pub(super) fn none_or(self, settings: Settings) -> Result<Settings, BadSettings> {
        if self.0.is_empty() { Ok(settings) } else { Err(BadSettings(self.0)) }
    }

    /// One more thing that is wrong.
    pub(super) fn add(&mut self, line: Option<String>) {
        self.0.extend(line);
    }

    /// The value, or something in its place.
    pub(super) fn or<T>(&mut self, name: &str, value: Result<T, String>, stand_in: T) -> T {
        value.unwrap_or_else(|reason| {
            self.0.push(format!("{name}: {reason}"));
            stand_in
        })
    }

    /// A duration within these bounds.
    pub(super) fn duration(&mut self, name: &str, text: &str, bounds: RangeInclusive<Duration>) -> Duration {
        let (least, most) = bounds.into_inner();
        let value = humantime::parse_duration(text)
            .map_err(|reason| format!("'{text}' is not a duration such as 500ms, 90s or 5m ({reason})"))
            .and_then(|value| {
                if (least..=most).contains(&value) {
                    Ok(value)
                } else {
                    let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
                    Err(format!("'{text}' is not between {least} and {most}"))
                }
            });
        self.or(name, value, least)
    }

    /// The same, or `None` if it is this word.
    pub(super) fn duration_or(
        &mut self,
        word: &str,
        name: &str,
        text: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        (text != word).then(|| self.duration(name, text, bounds))
    }
}
