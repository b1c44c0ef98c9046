//! Instants: microseconds since the Unix epoch, UTC, as every log's own form of them is read.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// No instant: the time of an event that has none. Null in a column, absent in text.
pub const UNKNOWN: Micros = Micros::MIN;

pub const SECOND: Micros = 1_000_000;
pub const MINUTE: Micros = 60 * SECOND;
pub const HOUR: Micros = 60 * MINUTE;
pub const DAY: Micros = 24 * HOUR;

/// Reads the ISO forms that audit logs use: `T` or a space, any number of fraction digits after a
/// dot or comma, `Z`, `+00:00`, `+0000`, ` +0000` or no zone at all, which means UTC.
///
/// Units: microseconds; further digits are cut, not rounded, so that an instant never moves forward.
/// Errors: `None` when it is not a complete date and time, or no date of the calendar.
#[inline]
pub fn parse_instant(text: &str) -> Option<Micros> {
    let bytes = text.as_bytes();
    let digits = |from: usize, len: usize| -> Option<u32> {
        let mut value = 0;
        for byte in bytes.get(from..from + len)? {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u32::from(digit);
        }
        Some(value)
    };
    if bytes.len() < 19
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || !matches!(bytes[10], b'T' | b't' | b' ')
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    // A leap second is the last second of its minute: logs that write it mean that instant.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut micros = 0i64;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        at += 1;
        let start = at;
        let mut scale = 100_000;
        while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9) {
            micros += i64::from(digit) * scale;
            scale /= 10;
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    let offset_secs = match &bytes[at..] {
        [] | [b'Z' | b'z'] | [b'U', b'T', b'C'] => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let minutes_at = match rest.len() {
                5 if rest[2] == b':' => at + 4,
                4 => at + 3,
                _ => return None,
            };
            let secs = i64::from(digits(at + 1, 2)? * 3600 + digits(minutes_at, 2)? * 60);
            if *sign == b'-' { -secs } else { secs }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day)?;
    let secs = i64::from(hour * 3600 + minute * 60 + second.min(59)) - offset_secs + days * 86_400;
    Some(secs * SECOND + micros)
}

/// Days since the epoch of a civil date; `None` when the calendar has no such day.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", 2013.
fn days_from_civil(year: u32, month: u32, day: u32) -> Option<i64> {
    const DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = DAYS.get(month.checked_sub(1)? as usize)? + u32::from(leap && month == 2);
    if day < 1 || day > longest {
        return None;
    }
    // Years begin in March, and 400 of them earlier, so that none is below zero.
    let year = year + 400 - u32::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    Some(i64::from(days) - 719_468 - 146_097)
}

/// Reads the other forms: epoch seconds, milliseconds or microseconds as text or number text,
/// and `M/D/YYYY h:mm:ss AM`. Falls back to [`parse_instant`] first.
pub fn parse_lenient(text: &str) -> Option<Micros> {
    let text = text.trim();
    parse_instant(text)
        .or_else(|| text.parse::<f64>().ok().and_then(from_epoch))
        .or_else(|| {
            let naive = NaiveDateTime::parse_from_str(text, "%m/%d/%Y %I:%M:%S %p").ok()?;
            Some(naive.and_utc().timestamp_micros())
        })
        .or_else(|| {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
        })
}

/// An epoch number in whichever of seconds, milliseconds, microseconds or nanoseconds puts it
/// between 1973 and 5138; `None` outside.
pub fn from_epoch(number: f64) -> Option<Micros> {
    let magnitude = number.abs();
    let micros = match magnitude {
        m if !(1e8..1e20).contains(&m) => return None,
        m if m < 1e11 => number * 1e6,
        m if m < 1e14 => number * 1e3,
        m if m < 1e17 => number,
        _ => number / 1e3,
    };
    Some(micros as i64)
}

/// RFC 3339 in UTC with microseconds and `Z`; the epoch number itself outside chrono's calendar.
pub fn format_instant(at: Micros) -> String {
    match DateTime::from_timestamp_micros(at) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike;

    #[test]
    fn every_iso_form_of_the_logs_is_the_same_instant() {
        let expected = 1_697_653_252_209_000;
        for text in [
            "2023-10-18T18:20:52.209Z",
            "2023-10-18T18:20:52.209000Z",
            "2023-10-18T18:20:52.2090000Z",
            "2023-10-18T18:20:52.209000000Z",
            "2023-10-18 18:20:52.209000000",
            "2023-10-18 18:20:52,209",
            "2023-10-18T20:20:52.209+02:00",
            "2023-10-18T11:20:52.209-0700",
            "2023-10-18 18:20:52.209 +0000",
            "2023-10-18 18:20:52.209 UTC",
        ] {
            assert_eq!(parse_instant(text), Some(expected), "{text}");
        }
        assert_eq!(format_instant(expected), "2023-10-18T18:20:52.209000Z");
    }

    #[test]
    fn every_day_is_where_the_calendar_has_it() {
        let epoch = NaiveDate::default();
        for year in (0..10_000).step_by(97).chain([4, 1900, 2000, 2024, 2100, 9999]) {
            let mut day = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            while day.year() == year {
                let text = format!("{year:04}-{:02}-{:02}T00:00:00Z", day.month(), day.day());
                let days = (day - epoch).num_days();
                assert_eq!(parse_instant(&text), Some(days * DAY), "{text}");
                day = day + chrono::Days::new(1);
            }
        }
    }

    #[test]
    fn what_is_no_instant_is_none() {
        for text in [
            "",
            "yesterday",
            "2023-13-18T18:20:52Z",
            "2023-02-29T18:20:52Z",
            "2023-10-18",
            "2023-10-18T25:20:52Z",
            "2023-10-18T18:20:52.Z",
            "2023-10-18T18:20:52+1",
            "é023-10-18T18:20:52",
        ] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }

    #[test]
    fn epoch_and_american_forms_are_read() {
        assert_eq!(parse_lenient("1697653252209"), Some(1_697_653_252_209_000));
        assert_eq!(parse_lenient("1697653252"), Some(1_697_653_252_000_000));
        assert_eq!(parse_lenient("5/18/2021 9:13:33 PM"), parse_instant("2021-05-18T21:13:33Z"));
        assert_eq!(parse_lenient("12"), None);
    }
}
