//! Instants as the database has them: microseconds, the two infinities, and years beyond the calendar of RFC 3339.

use std::fmt;

use time::OffsetDateTime;

/// An instant, in microseconds since 1970-01-01T00:00:00Z, or before or after all instants
/// (`-infinity` and `infinity`, PostgreSQL manual, section 8.5.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Later than every instant.
    pub const INFINITY: Self = Self(i64::MAX);
    /// Earlier than every instant.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// The instant so many microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch; the extremes of `i64` for the infinities.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        self.0
    }

    /// The instant so many microseconds earlier; an infinity stays what it is.
    #[must_use]
    pub fn minus_micros(self, micros: i64) -> Self {
        if self == Self::INFINITY || self == Self::NEG_INFINITY {
            self
        } else {
            Self(self.0.saturating_sub(micros))
        }
    }

    /// The instant so many microseconds later; an infinity stays what it is.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        self.minus_micros(micros.saturating_neg())
    }
}

impl Timestamp {
    /// Appends what [`fmt::Display`] shows. An answer has many instants: this is quick for those of our age.
    pub fn write_to(self, out: &mut Vec<u8>) {
        /// The years that four digits are enough for begin and end with these instants.
        const FIRST: i64 = -62_167_219_200_000_000;
        const LAST: i64 = 253_402_300_799_999_999;
        if !(FIRST..=LAST).contains(&self.0) {
            out.extend_from_slice(self.to_string().as_bytes());
            return;
        }
        let (days, micros) = (self.0.div_euclid(DAY_MICROS), self.0.rem_euclid(DAY_MICROS));
        let (year, month, day) = civil(days);
        let (seconds, micros) = (small(micros / 1_000_000), small(micros % 1_000_000));
        let (year, month, day) = (small(year), small(month), small(day));
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (at, number) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, seconds / 3_600),
            (14, seconds / 60 % 60),
            (17, seconds % 60),
            (20, micros / 10_000),
            (22, micros / 100 % 100),
            (24, micros % 100),
        ] {
            text[at..at + 2].copy_from_slice(&two(number));
        }
        out.extend_from_slice(&text);
    }
}

/// The two digits of a number below 100.
fn two(number: u32) -> [u8; 2] {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [*b"00"; 100];
        let (mut tens, mut at) = (b'0', 0);
        while tens <= b'9' {
            let mut ones = b'0';
            while ones <= b'9' {
                pairs[at] = [tens, ones];
                at += 1;
                ones += 1;
            }
            tens += 1;
        }
        pairs
    };
    PAIRS.get(number as usize).copied().unwrap_or(*b"00")
}

/// A part of an instant of our age. None is negative or large.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Year, month and day of the day so many days after 1970-01-01, in the proleptic Gregorian calendar. The year is
/// taken to begin in March, so that the day that may be missing is its last (H. Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with six decimals and `Z`. What RFC 3339 can't say is said as PostgreSQL (`infinity`) and
    /// ISO 8601 (expanded years, `+012026-…`) say it: only a foreign writer can have stored that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::INFINITY {
            return f.write_str("infinity");
        }
        if *self == Self::NEG_INFINITY {
            return f.write_str("-infinity");
        }
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000) else {
            // Beyond the year 999,999; PostgreSQL ends in 294,276.
            return write!(f, "{}us", self.0);
        };
        match at.year() {
            year @ 0..=9_999 => write!(f, "{year:04}")?,
            year => write!(f, "{year:+07}")?,
        }
        let (month, day) = (u8::from(at.month()), at.day());
        let (hour, minute, second, micro) = (at.hour(), at.minute(), at.second(), at.microsecond());
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339_with_six_decimals() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_790_000_000_123_456, "2026-09-21T14:13:20.123456Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), text);
        }
    }

    #[test]
    fn what_is_appended_is_what_is_shown() {
        // Some 400 years by odd steps, and the edges of what is done quickly.
        let steps = (-6_000_000_000_000_000..6_000_000_000_000_000).step_by(86_399_999_983 * 3);
        let edges = [i64::MIN, i64::MAX, 0, -1, -62_167_219_200_000_001, -62_167_219_200_000_000]
            .into_iter()
            .chain([253_402_300_799_999_999, 253_402_300_800_000_000]);
        for micros in steps.chain(edges) {
            let mut out = Vec::new();
            Timestamp(micros).write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), Timestamp(micros).to_string(), "{micros}");
        }
    }

    #[test]
    fn what_rfc_3339_cannot_say_is_still_said() {
        assert_eq!(Timestamp::INFINITY.to_string(), "infinity");
        assert_eq!(Timestamp::NEG_INFINITY.to_string(), "-infinity");
        assert_eq!(Timestamp(253_402_300_800_000_000).to_string(), "+010000-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(-210_866_803_200_000_000).to_string(), "-004713-11-24T00:00:00.000000Z");
        assert_eq!(Timestamp::INFINITY.minus_micros(5), Timestamp::INFINITY);
    }
}
