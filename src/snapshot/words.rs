//! Numbers, durations and sizes as people read them, for the page and the terminal.

use std::time::Duration;

/// A number with its thousands grouped: `12,345`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things, whose plural ends in s: `1 conflict`, `2 conflicts`.
pub fn counted(count: u64, what: &str) -> String {
    format!(
        "{} {what}{}",
        number(count),
        if count == 1 { "" } else { "s" }
    )
}

/// A duration in its two largest units at most: `58 ms`, `1.25 s`, `3 min 20 s`, `364 days 3 h`.
pub fn duration(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    let two = |large: u64, name: &str, small: u64, small_name: &str| {
        if small == 0 {
            format!("{large} {name}")
        } else {
            format!("{large} {name} {small} {small_name}")
        }
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..60 if millis.is_multiple_of(1000) => format!("{seconds} s"),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(
            seconds / 86_400,
            if seconds < 172_800 { "day" } else { "days" },
            seconds % 86_400 / 3600,
            "h",
        ),
    }
}

/// A size in binary units: `512 B`, `1.5 KiB`, `256 MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let (whole, tenths) = (bytes >> shift, ((bytes & ((1 << shift) - 1)) * 10) >> shift);
    if tenths == 0 || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_counted() {
        let table = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
        ];
        table
            .iter()
            .for_each(|(value, expected)| assert_eq!(number(*value), *expected));
        assert_eq!(
            (
                counted(1, "attempt").as_str(),
                counted(0, "attempt").as_str()
            ),
            ("1 attempt", "0 attempts")
        );
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let table = [
            (0, "0 ms"),
            (58, "58 ms"),
            (1_250, "1.2 s"),
            (8_000, "8 s"),
            (12_900, "12 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 day"),
            (31_460_400_000, "364 days 3 h"),
        ];
        table.iter().for_each(|(millis, expected)| {
            assert_eq!(duration(Duration::from_millis(*millis)), *expected)
        });
    }

    #[test]
    fn bytes_have_binary_units() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 20, "3 MiB"),
            (256 << 20, "256 MiB"),
            (5 << 30, "5 GiB"),
        ];
        table
            .iter()
            .for_each(|(value, expected)| assert_eq!(bytes(*value), *expected));
    }
}
