//! Whether two texts are the same quantity, as in `1000m` and `1`.

/// What the suffixes of a quantity multiply by, as 10 or 1024 to a power.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/resource/suffix.go>
const SUFFIXES: [(&str, u32, i32); 16] = [
    ("n", 10, -9),
    ("u", 10, -6),
    ("m", 10, -3),
    ("", 10, 0),
    ("k", 10, 3),
    ("M", 10, 6),
    ("G", 10, 9),
    ("T", 10, 12),
    ("P", 10, 15),
    ("E", 10, 18),
    ("Ki", 1024, 1),
    ("Mi", 1024, 2),
    ("Gi", 1024, 3),
    ("Ti", 1024, 4),
    ("Pi", 1024, 5),
    ("Ei", 1024, 6),
];

/// Whether both texts are quantities of the same value. Finer than a billionth is no quantity here.
pub(super) fn same(one: &str, other: &str) -> bool {
    billionths(one).is_some_and(|amount| billionths(other) == Some(amount))
}

/// The value in billionths, the smallest unit that a quantity has.
fn billionths(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = digits.split_at(end.unwrap_or(digits.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let exponent = suffix.strip_prefix(['e', 'E']).filter(|e| !e.is_empty());
    let (base, power) = match exponent {
        Some(exponent) if suffix != "Ei" => (10, exponent.parse().ok()?),
        _ => {
            let (_, base, power) = SUFFIXES.iter().find(|(each, ..)| *each == suffix)?;
            (*base, *power)
        }
    };
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let decimals = 9 - i32::try_from(fraction.len()).ok()?;
    let amount = match base {
        10 => scaled(digits, 10, decimals.checked_add(power)?)?,
        _ => scaled(scaled(digits, base, power)?, 10, decimals)?,
    };
    Some(if negative { -amount } else { amount })
}

/// `amount` × `base` ^ `power`. None: it is not whole, or too large.
fn scaled(amount: i128, base: u32, power: i32) -> Option<i128> {
    let factor = i128::from(base).checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        amount.checked_mul(factor)
    } else {
        (amount % factor == 0).then_some(amount / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn the_same_quantity_in_other_words_is_the_same() {
        every(
            [
                ("1000m", "1", true),
                ("0.5", "500m", true),
                ("1.50", "1500m", true),
                ("1024Mi", "1Gi", true),
                ("1e3", "1k", true),
                ("1E", "1000P", true),
                ("1Ei", "1024Pi", true),
                ("2E3", "2k", true),
                ("-1", "-1000m", true),
                ("+1", "1", true),
                ("0.1Gi", "107374182.4", true),
                ("1", "2", false),
                ("1M", "1Mi", false),
                ("1", "-1", false),
                ("a", "a", false),
                ("", "", false),
                (".", "0", false),
                ("1.2.3", "1.2.3", false),
                ("1 ", "1", false),
                ("1e99999999999", "1", false),
                ("99999999999999999999999999999999999999999", "1", false),
            ],
            |(one, other, expected)| {
                assert_eq!(same(one, other), expected);
                assert_eq!(same(other, one), expected);
            },
        );
    }
}
