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
    pub fn from_unix_micros(micros: i64) -> Self {
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
    fn what_rfc_3339_cannot_say_is_still_said() {
        assert_eq!(Timestamp::INFINITY.to_string(), "infinity");
        assert_eq!(Timestamp::NEG_INFINITY.to_string(), "-infinity");
        assert_eq!(Timestamp(253_402_300_800_000_000).to_string(), "+010000-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(-210_866_803_200_000_000).to_string(), "-004713-11-24T00:00:00.000000Z");
        assert_eq!(Timestamp::INFINITY.minus_micros(5), Timestamp::INFINITY);
    }
}
