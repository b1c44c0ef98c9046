//! Instants as the logs write them.

use chrono::DateTime;
use telltale_schema::time::{DAY, HOUR, Micros, SECOND};

/// `2025-03-04T05:06:07` and, where there are `digits`, a dot and a fraction; then `Z`.
/// Units: microseconds in; digits beyond the sixth are zero.
pub(crate) fn iso(at: Micros, digits: usize) -> String {
    let mut text = date_and_time(at, 'T');
    if digits > 0 {
        let fraction = format!("{:06}000", at.rem_euclid(SECOND));
        text.push('.');
        text.push_str(&fraction[..digits.min(9)]);
    }
    text.push('Z');
    text
}

/// `2025-03-04 05:06:07`, with the given sign between date and time.
pub(crate) fn date_and_time(at: Micros, between: char) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY));
    let second = at.rem_euclid(DAY) / SECOND;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = Vec::with_capacity(32);
    for (number, width, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, between as u8),
        (hour, 2, b':'),
        (minute, 2, b':'),
        (second, 2, 0),
    ] {
        let mut scale = 10i64.pow(width - 1);
        while scale > 0 {
            text.push(b'0' + (number / scale % 10) as u8);
            scale /= 10;
        }
        if end != 0 {
            text.push(end);
        }
    }
    String::from_utf8(text).expect("digits and signs are ASCII")
}

/// `Jul 10, 2023, 12:31:14 PM`, as CloudTrail writes the end of a session.
pub(crate) fn american(at: Micros) -> String {
    DateTime::from_timestamp_micros(at)
        .map(|time| time.format("%b %-d, %Y, %-I:%M:%S %p").to_string())
        .unwrap_or_default()
}

/// Day of the week, Monday is 0.
pub(crate) fn weekday(at: Micros) -> i64 {
    (at.div_euclid(DAY) + 3).rem_euclid(7)
}

/// Hour of the day in a zone that is so many hours ahead of UTC.
pub(crate) fn local_hour(at: Micros, ahead: i64) -> usize {
    ((at + ahead * HOUR).rem_euclid(DAY) / HOUR) as usize
}

/// Year, month and day of a day since the epoch.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", 2013.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let month_of_year = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month_of_year <= 2);
    (year, month_of_year, of_year - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_schema::time::parse_instant;

    #[test]
    fn what_is_written_reads_back() {
        for at in [0, 951_782_400_000_000, 1_709_210_096_123_456, 1_767_225_599_999_999] {
            assert_eq!(parse_instant(&iso(at, 9)), Some(at), "{}", iso(at, 9));
            assert_eq!(parse_instant(&iso(at, 6)), Some(at));
        }
        assert_eq!(american(1_688_992_274_000_000), "Jul 10, 2023, 12:31:14 PM");
        assert_eq!(weekday(1_688_992_274_000_000), 0, "a Monday");
    }
}
