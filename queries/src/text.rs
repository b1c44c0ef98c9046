//! Instants, ids and strings as text, appended to a buffer without an allocation of their own.

use telltale_schema::Micros;
use telltale_schema::time::{DAY, SECOND, format_instant};

/// Appends `text` as a JSON string, quotes included. Escapes are those of `serde_json`.
pub(crate) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.extend_from_slice(b"00");
            push_hex(out, &[*byte]);
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// What follows the backslash for each byte; zero where the byte stands for itself.
static ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends lower-case hex.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends RFC 3339 in UTC with microseconds and `Z`, as [`format_instant`] writes it.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", 2013.
pub(crate) fn push_instant(out: &mut Vec<u8>, at: Micros) {
    const YEAR_0: Micros = -719_528 * DAY;
    const YEAR_10_000: Micros = 2_932_897 * DAY;
    if !(YEAR_0..YEAR_10_000).contains(&at) {
        return out.extend_from_slice(format_instant(at).as_bytes());
    }
    let (days, of_day) = (at.div_euclid(DAY) + 719_468, at.rem_euclid(DAY));
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = of_day / SECOND;

    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], seconds / 3600);
    put(&mut text[14..16], seconds / 60 % 60);
    put(&mut text[17..19], seconds % 60);
    put(&mut text[20..26], of_day % SECOND);
    out.extend_from_slice(&text);
}

/// Writes the last digits of `number`, as many as there is room for.
fn put(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn instants_are_written_as_the_schema_formats_them() {
        for at in [
            0,
            -1,
            1,
            951_782_400_000_000,
            1_709_164_800_000_000 - 1,
            1_697_653_252_209_000,
            4_102_444_800_000_000,
            -62_135_596_800_000_000,
            -62_167_219_200_000_000,
            -62_167_219_200_000_001,
            253_402_300_799_999_999,
            253_402_300_800_000_000,
            Micros::MIN,
            Micros::MAX,
        ] {
            assert_eq!(text(|out| push_instant(out, at)), format_instant(at), "{at}");
        }
    }

    #[test]
    fn strings_and_numbers_are_written_as_serde_json_does() {
        let all: String = (0..300u32).filter_map(char::from_u32).collect();
        for sample in ["", "plain", "a\"b\\c", "\u{1b}[31m", "é\n\t", all.as_str()] {
            assert_eq!(
                text(|o| push_json_string(o, sample)),
                serde_json::to_string(sample).unwrap()
            );
        }
        for number in [0, -1, 10, 403, i64::MIN, i64::MAX] {
            assert_eq!(text(|o| push_number(o, number)), number.to_string());
        }
        assert_eq!(text(|o| push_hex(o, &[0, 0xaf, 0x10])), "00af10");
    }
}
