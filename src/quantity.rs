//! Amounts like `500m`, `2Gi` or `12e6`, read and printed as Kubernetes' `resource.Quantity` does.
//! Pure.
//!
//! A [`Quantity`] counts billionths, because Kubernetes rounds anything finer up. All arithmetic is
//! exact. `k8s.io/apimachinery` keeps numbers of any size; above about 1.7e29 this module says
//! [`QuantityError::TooLarge`] instead, so that no input costs more than its own length.
//! `quotas` compares what creates ask for with what is free.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go>

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Digits after the decimal point.
const NANO: i32 = 9;
const NANOS: i128 = 1_000_000_000;
/// Every power of ten up to this exponent fits into an `i128`.
const MAX_DIGITS: i64 = 38;
/// The largest value with a binary suffix, in billionths. A larger one is cut to it.
const MAX_BINARY: i128 = i64::MAX as i128 * NANOS;

/// An exact amount. Two that are equal in value are equal, whatever suffix they were written with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The kind of suffix that an amount is printed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `m` and the other powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi` and the other powers of 1024.
    BinarySi,
    /// `e3`, `e-6`.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not a number with a suffix.
    #[error("not a number with a suffix, like 500m or 2Gi")]
    Format,
    /// It has a suffix but no digit, and a suffix with which that is not 0.
    #[error("there is no number before the suffix")]
    Numeric,
    /// The suffix is not known.
    #[error(
        "the suffix is none of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or e and a number"
    )]
    Suffix,
    /// Kubernetes accepts it, but it is above 1.7e29 or below -1.7e29.
    #[error("larger than any amount of a quota")]
    TooLarge,
}

impl Quantity {
    /// A whole number.
    #[must_use]
    pub const fn whole(value: i64) -> Self {
        Self {
            nanos: value as i128 * NANOS,
            format: Format::DecimalSi,
        }
    }

    /// The value in billionths.
    #[must_use]
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// The kind of suffix that it is printed with.
    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether the value is above 0.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    /// The sum, in the format of `self`, or in that of `other` if `self` is 0. None: it is too
    /// large.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.with(self.nanos.checked_add(other.nanos)?, other)
    }

    /// The difference, in the same format as a sum. None: it is too large.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.with(self.nanos.checked_sub(other.nanos)?, other)
    }

    fn with(self, nanos: i128, other: Self) -> Option<Self> {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Some(Self { nanos, format })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::of(text)?;
        let suffix = Suffix::of(parts.suffix).ok_or(QuantityError::Suffix)?;
        if !parts.is_short(suffix) && parts.has_no_digit {
            return Err(QuantityError::Numeric);
        }
        let magnitude = parts.nanos(suffix).ok_or(QuantityError::TooLarge)?;
        let format = match suffix {
            Suffix::Decimal(_) => Format::DecimalSi,
            Suffix::Exponent(_) => Format::DecimalExponent,
            // Kubernetes does the same, so that 0.5Ki is not printed as a fraction of Ki.
            Suffix::Binary(_) if (1..NANOS).contains(&magnitude) => Format::DecimalSi,
            Suffix::Binary(_) => Format::BinarySi,
        };
        Ok(Self {
            nanos: if parts.negative {
                -magnitude
            } else {
                magnitude
            },
            format,
        })
    }
}

#[derive(Clone, Copy)]
enum Suffix {
    /// A power of ten.
    Decimal(i32),
    /// A power of ten, written as `e` or `E` and a number.
    Exponent(i32),
    /// A power of two.
    Binary(u32),
}

impl Suffix {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "" => Self::Decimal(0),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            _ => {
                let exponent: i64 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "Kubernetes cuts the exponent to 32 bits in the same way"
                )]
                Self::Exponent(exponent as i32)
            }
        })
    }
}

/// A text, cut up as `parseQuantityString` does it.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    suffix: &'a str,
    /// Not even a 0 stands before the suffix.
    has_no_digit: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (before_point, rest) = digits(unsigned);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest),
            None => ("", rest),
        };
        // Letters of suffixes in any order, then perhaps an exponent.
        let exponent = suffix.trim_start_matches(|letter| "eEinumkKMGTP".contains(letter));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !digits(exponent).1.is_empty() {
            return Err(QuantityError::Format);
        }
        Ok(Self {
            negative: text.starts_with('-'),
            whole: before_point.trim_start_matches('0'),
            fraction,
            suffix,
            has_no_digit: before_point.is_empty() && fraction.is_empty(),
        })
    }

    /// Whether Kubernetes reads this as a 64-bit integer. It then takes a missing number for 0.
    fn is_short(&self, suffix: Suffix) -> bool {
        let whole = self.whole.len().max(1);
        match suffix {
            Suffix::Decimal(exponent) | Suffix::Exponent(exponent) => {
                whole + self.fraction.len() <= 18 && exponent.wrapping_sub(self.decimals()) >= -NANO
            }
            Suffix::Binary(exponent) => {
                self.fraction.is_empty() && whole + exponent as usize * 3 / 10 < 15
            }
        }
    }

    fn decimals(&self) -> i32 {
        i32::try_from(self.fraction.len()).unwrap_or(i32::MAX)
    }

    /// The value without its sign in billionths, rounded up. None: it is too large.
    fn nanos(&self, suffix: Suffix) -> Option<i128> {
        match suffix {
            Suffix::Decimal(exponent) | Suffix::Exponent(exponent) => {
                // The digits after the point, as Kubernetes counts them in 32 bits, which wrap.
                let scale = self.decimals().wrapping_sub(exponent);
                self.shifted(i64::from(NANO) - i64::from(scale))
            }
            Suffix::Binary(exponent) => Some(self.times(NANOS << exponent)),
        }
    }

    /// All digits as a number, times ten to the power of `places`, rounded up.
    fn shifted(&self, places: i64) -> Option<i128> {
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        let mut digits = digits.skip_while(|digit| *digit == b'0').map(value);
        let all = i64::try_from(digits.clone().count()).ok()?;
        if all == 0 {
            return Some(0);
        }
        let kept = all.checked_add(places)?;
        if kept > MAX_DIGITS + 1 {
            return None;
        }
        let mut number = 0_i128;
        for _ in 0..kept {
            let digit = digits.next().unwrap_or(0);
            number = number.checked_mul(10)?.checked_add(digit)?;
        }
        let is_exact = digits.all(|digit| digit == 0);
        number.checked_add(i128::from(!is_exact))
    }

    /// The number times `unit`, rounded up, at most [`MAX_BINARY`].
    fn times(&self, unit: i128) -> i128 {
        // From the last digit to the first, each step divides by ten. What is cut off matters only
        // as a whole: whether it is 0.
        let (mut fraction, mut is_exact) = (0, true);
        for digit in self.fraction.bytes().rev().map(value) {
            let sum = digit * unit + fraction;
            is_exact &= sum % 10 == 0;
            fraction = sum / 10;
        }
        let whole = self
            .whole
            .parse::<i128>()
            .or_else(|error| match self.whole {
                "" => Ok(0),
                _ => Err(error),
            });
        whole
            .ok()
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|nanos| nanos.checked_add(fraction + i128::from(!is_exact)))
            .map_or(MAX_BINARY, |nanos| nanos.min(MAX_BINARY))
    }
}

/// The digits at the start of a text, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

fn value(digit: u8) -> i128 {
    i128::from(digit - b'0')
}

/// The canonical form: a whole number with the largest suffix that needs no fraction.
///
/// Kubernetes prints a quantity that was read from text and is not yet changed with that text if it
/// is nearly canonical, as in `1.500`. What it computes it prints in this form.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_whole = self.nanos % NANOS == 0;
        let is_small = self.nanos.abs() < 1024 * NANOS;
        if self.format == Format::BinarySi && is_whole && !is_small {
            let (number, times) = without_factors(self.nanos / NANOS, 1024);
            let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            return write!(f, "{number}{}", suffixes.get(times).unwrap_or(&""));
        }
        let (number, thousands) = without_factors(self.nanos, 1000);
        if self.format == Format::DecimalExponent {
            let exponent = 3 * i32::try_from(thousands).unwrap_or(i32::MAX) - NANO;
            return match exponent {
                0 => write!(f, "{number}"),
                _ => write!(f, "{number}e{exponent}"),
            };
        }
        // There is no suffix above E. Kubernetes prints 1000E as 1 too.
        let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        write!(f, "{number}{}", suffixes.get(thousands).unwrap_or(&""))
    }
}

/// A number that is not 0 without its factors of `base`, and how many there were.
fn without_factors(mut number: i128, base: i128) -> (i128, usize) {
    let mut times = 0;
    while number % base == 0 {
        number /= base;
        times += 1;
    }
    (number, times)
}

#[cfg(test)]
mod differential;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    /// What `tests/samples/quantity/main.go` prints.
    const GO: &str = include_str!("../tests/samples/quantity.tsv");

    fn go(kind: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        GO.lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .filter(move |row| row[0] == kind)
            .map(|row| row[1..].to_vec())
    }

    #[test]
    fn reads_and_prints_what_kubernetes_reads_and_prints() {
        every(go("parse"), |row| {
            let expected = match row[1..] {
                ["format"] => Err(QuantityError::Format),
                ["numeric"] => Err(QuantityError::Numeric),
                ["suffix"] => Err(QuantityError::Suffix),
                ["large", ..] => Err(QuantityError::TooLarge),
                [nanos, format, canonical] => {
                    Ok((nanos.to_owned(), format.to_owned(), canonical.to_owned()))
                }
                _ => panic!("not a row"),
            };
            let read = row[0].parse::<Quantity>().map(|quantity| {
                let format = match quantity.format() {
                    Format::DecimalSi => "DecimalSI",
                    Format::BinarySi => "BinarySI",
                    Format::DecimalExponent => "DecimalExponent",
                };
                (
                    quantity.nanos().to_string(),
                    format.to_owned(),
                    quantity.to_string(),
                )
            });
            assert_eq!(read, expected);
        });
        assert_eq!("".parse::<Quantity>(), Err(QuantityError::Format));
    }

    #[test]
    fn compares_and_subtracts_as_kubernetes_does() {
        every(go("minus"), |row| {
            let [a, b] = [row[0], row[1]].map(|text| text.parse::<Quantity>().unwrap());
            assert_eq!((a.cmp(&b) as i8).to_string(), row[2]);
            assert_eq!(a == b, row[2] == "0");
            let difference = a.minus(b).unwrap();
            assert_eq!(difference.nanos().to_string(), row[3]);
            assert_eq!(difference.to_string(), row[4]);
            assert_eq!(difference.plus(b).unwrap(), a);
        });
    }

    #[test]
    fn what_does_not_fit_is_no_panic() {
        let largest: Quantity = "170141183460469231731687303715".parse().unwrap();
        let least: Quantity = "-170141183460469231731687303715".parse().unwrap();
        assert_eq!(largest.plus(largest), None);
        assert_eq!(least.minus(largest), None);
        assert_eq!(Quantity::whole(3).to_string(), "3");
    }

    /// Kubernetes needs memory and time in proportion to these exponents.
    #[test]
    fn an_exponent_costs_nothing() {
        let zeros = "0".repeat(100_000);
        let nines = "9".repeat(100_000);
        every(
            [
                ("1e-2147483647".to_owned(), Ok(1)),
                ("-1e-2147483647".to_owned(), Ok(-1)),
                ("1e2147483647".to_owned(), Err(QuantityError::TooLarge)),
                ("1e2147483648".to_owned(), Err(QuantityError::TooLarge)),
                (format!("1{zeros}"), Err(QuantityError::TooLarge)),
                (format!("{nines}Ki"), Ok(MAX_BINARY)),
                (format!("0.{zeros}1Ei"), Ok(1)),
                (format!("0.{nines}"), Ok(NANOS)),
                (format!("{zeros}1"), Ok(NANOS)),
                (format!("1{zeros}e-100000"), Ok(NANOS)),
            ],
            |(text, nanos)| assert_eq!(text.parse::<Quantity>().map(Quantity::nanos), nanos),
        );
    }
}
