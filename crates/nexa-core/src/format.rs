//! Numbers as people read them: alike in the terminal and on the dashboards.

/// A count with its thousands apart: `12,480`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in its two largest units: `8.2s`, `3m 20s`, `1h 02m`, `1d 01h`.
pub fn duration(seconds: f64) -> String {
    // What would be rounded to 60.0 seconds is a minute.
    if seconds < 59.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {:02}s", whole % 60),
        (0, _) => format!("{hours}h {minutes:02}m"),
        (_, _) => format!("{days}d {hours:02}h"),
    }
}

/// A size in decimal units: `1.4 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be rounded to 1000.0 of a unit is 1.0 of the next.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let check = |number: u64, expected: &str| assert_eq!(count(number), expected);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn durations() {
        let check = |seconds: f64, expected: &str| assert_eq!(duration(seconds), expected, "{seconds}");
        check(-1.0, "0.0s");
        check(8.24, "8.2s");
        check(59.94, "59.9s");
        check(59.96, "1m 00s");
        check(200.0, "3m 20s");
        check(3599.7, "1h 00m");
        check(3720.0, "1h 02m");
        check(90_000.0, "1d 01h");
    }

    #[test]
    fn sizes() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes), expected);
        check(12, "12 B");
        check(999, "999 B");
        check(1_440_000, "1.4 MB");
        check(999_960, "1.0 MB");
        check(u64::MAX, "18446744.1 TB");
    }
}
