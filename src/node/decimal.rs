//! JSON numbers as PostgreSQL's `numeric` writes them: exact, and in plain decimal form.

use std::cmp::Ordering;
use std::iter::repeat_n;

/// The most characters a number may have in plain decimal form. `1e131071` is nine bytes in and 131 kB out.
pub const MAX_PLAIN_CHARS: usize = 400;

/// The number's plain form would be longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Rewrites a JSON number (RFC 8259, section 6) to the plain form that `jsonb` shows: no exponent, no sign on zero,
/// and as many decimals as were written (`1.10` stays `1.10`, `1.5e3` is `1500`, `1e-2` is `0.01`).
///
/// # Errors
/// [`TooLong`] if that form has more than `max_chars` characters.
pub fn plain(number: &str, max_chars: usize) -> Result<String, TooLong> {
    let (negative, rest) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, saturating_exponent(exponent)),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = signed(fraction.len()).saturating_sub(exponent).max(0);
    let digits = whole.bytes().chain(fraction.bytes());
    let leading_zeros = digits.clone().take_while(|&digit| digit == b'0').count();
    let zero = leading_zeros == whole.len() + fraction.len();

    // How many of the digits stand before the point; negative if zeros stand between the point and the first one.
    let point = if zero { 0 } else { (signed(whole.len()) - signed(leading_zeros)).saturating_add(exponent) };
    let decimals = if scale > 0 { scale.saturating_add(1) } else { 0 };
    let length = i64::from(negative && !zero).saturating_add(point.max(1)).saturating_add(decimals);
    if length > signed(max_chars) {
        return Err(TooLong);
    }

    let mut out = String::with_capacity(max_chars.min(40));
    if negative && !zero {
        out.push('-');
    }
    let mut significant = digits.skip(leading_zeros).map(char::from).chain(std::iter::repeat('0'));
    if point <= 0 {
        out.push('0');
    } else {
        out.extend(significant.by_ref().take(unsigned(point)));
    }
    if scale > 0 {
        out.push('.');
        let gap = unsigned(-point).min(unsigned(scale));
        out.extend(repeat_n('0', gap));
        out.extend(significant.take(unsigned(scale) - gap));
    }
    Ok(out)
}

/// A length of text; more than fits is as good as the most.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A count of characters; less than none is none.
fn unsigned(count: i64) -> usize {
    usize::try_from(count.max(0)).unwrap_or(usize::MAX)
}

/// Exponents beyond a billion are all the same: too long, or zero.
fn saturating_exponent(text: &str) -> i64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    sign * digits.bytes().fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000_000))
}

/// Whether two numbers in plain form have the same value: `1`, `1.0` and `1.00` have.
#[must_use]
pub fn equal_by_value(a: &str, b: &str) -> bool {
    value_of(a).cmp(value_of(b)) == Ordering::Equal
}

/// What of a number in plain form is the same for all that have its value: `1` of `1.00`.
#[must_use]
pub fn value_of(plain: &str) -> &str {
    if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.') } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(number: &str) -> Result<String, TooLong> {
        plain(number, MAX_PLAIN_CHARS)
    }

    #[test]
    fn numbers_are_written_as_numeric_writes_them() {
        for (number, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("1.10", "1.10"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("1.5e3", "1500"),
            ("1.10e1", "11.0"),
            ("12.50e-1", "1.250"),
            ("1e-2", "0.01"),
            ("-1.10e-2", "-0.0110"),
            ("0e5", "0"),
            ("0e-3", "0.000"),
            ("0.0e999999999999999999999", "0"),
            ("100e-2", "1.00"),
            ("0.001e3", "1"),
            ("0.001e2", "0.1"),
            ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
        ] {
            assert_eq!(p(number).as_deref(), Ok(expected), "{number}");
        }
    }

    #[test]
    fn a_number_is_refused_by_the_length_of_its_plain_form() {
        assert_eq!(p("1e399").map(|n| n.len()), Ok(400));
        assert_eq!(p("-1e399"), Err(TooLong));
        assert_eq!(p("1e400"), Err(TooLong));
        assert_eq!(p("1e131071"), Err(TooLong));
        assert_eq!(p("1e-398").map(|n| n.len()), Ok(400));
        assert_eq!(p("1e-399"), Err(TooLong));
        assert_eq!(p("0e-399"), Err(TooLong));
        assert_eq!(p("1e-99999999999999999999"), Err(TooLong));
        assert_eq!(p("9e99999999999999999999"), Err(TooLong));
    }

    #[test]
    fn values_are_compared_without_their_trailing_zeros() {
        assert!(equal_by_value("1", "1.0") && equal_by_value("0.10", "0.1") && equal_by_value("0", "0.00"));
        assert!(!equal_by_value("10", "1") && !equal_by_value("-1", "1") && !equal_by_value("100", "1.00"));
    }
}
