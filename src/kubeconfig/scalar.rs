//! What a scalar without quotes means: the words and numbers of YAML 1.1, as Go's YAML reads them.
//!
//! The rules are those of `resolve` in
//! <https://github.com/yaml/go-yaml/blob/v2.4.2/resolve.go#L83>.

use super::mistake::Problem;
use crate::config::yaml::YamlValue;

/// The meaning of a scalar with the given tag (`!!int` is `int`), or of one without quotes and tag.
pub(super) fn resolve(tag: Option<&str>, text: &str) -> Result<YamlValue, Problem> {
    let value = match tag {
        None => return Ok(meaning(text)),
        Some("str") => return Ok(YamlValue::Text(text.to_owned())),
        Some("bool" | "int" | "float" | "null") => meaning(text),
        // A date stays a text.
        Some("timestamp") if timestamp(text) => return Ok(YamlValue::Text(text.to_owned())),
        Some("timestamp") => return Err(Problem::Tag("timestamp")),
        Some("binary") => {
            let bytes = super::text::go_base64(text).map_err(|_| Problem::Tag("binary"))?;
            return Ok(YamlValue::Text(
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
        // A tag that is not known says nothing.
        Some(_) => return Ok(YamlValue::Text(text.to_owned())),
    };
    match (tag, value) {
        (Some("bool"), value @ YamlValue::Bool(_))
        | (Some("int"), value @ YamlValue::Integer(_))
        | (Some("float"), value @ YamlValue::Float(_))
        | (Some("null"), value @ YamlValue::Null) => Ok(value),
        #[expect(
            clippy::cast_precision_loss,
            reason = "Go converts it to a float64 too"
        )]
        (Some("float"), YamlValue::Integer(number)) => Ok(YamlValue::Float(number as f64)),
        (Some("bool"), _) => Err(Problem::Tag("bool")),
        (Some("int"), _) => Err(Problem::Tag("int")),
        (Some("float"), _) => Err(Problem::Tag("float")),
        (_, _) => Err(Problem::Tag("null")),
    }
}

/// The meaning of a scalar without quotes and tag.
pub(super) fn meaning(text: &str) -> YamlValue {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return YamlValue::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return YamlValue::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return YamlValue::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return YamlValue::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return YamlValue::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return YamlValue::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => decimal(text),
        b'+' | b'-' | b'0'..=b'9' if !timestamp(text) => {
            let plain = text.replace('_', "");
            integer(&plain)
                .map(YamlValue::Integer)
                .or_else(|| decimal(&plain))
        }
        _ => None,
    };
    number.unwrap_or_else(|| YamlValue::Text(text.to_owned()))
}

/// Go's `strconv.ParseInt` with base 0, and `ParseUint` for what is larger.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let signed = digits.len() != text.len();
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // from_str_radix takes a sign of its own.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    let number = if negative { -size } else { size };
    let largest = if signed {
        i128::from(i64::MAX)
    } else {
        i128::from(u64::MAX)
    };
    (i128::from(i64::MIN)..=largest)
        .contains(&number)
        .then_some(number)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, if a float64 can hold it.
fn decimal(text: &str) -> Option<YamlValue> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let written = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent)
        });
    if !written {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Go reports a number out of range, and takes the text.
    number.is_finite().then_some(YamlValue::Float(number))
}

/// A date, or a date and a time: `2006-1-2`, `2006-1-2T15:4:5Z`, `2006-1-2 15:4:5`. Only the form
/// matters: such a scalar is a text and not a number, which a form that Go refuses is as well.
fn timestamp(text: &str) -> bool {
    let (year, rest) = match text.split_at_checked(4) {
        Some((year, rest)) => (year, rest),
        None => return false,
    };
    let Some(rest) = rest.strip_prefix('-') else {
        return false;
    };
    let date_end = rest.find(['T', 't', ' ']).unwrap_or(rest.len());
    let (date, time) = rest.split_at(date_end);
    let short = |part: &str, largest: u8| {
        (1..=2).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|number| number <= largest)
    };
    let date = date
        .split_once('-')
        .is_some_and(|(month, day)| short(month, 12) && short(day, 31));
    let time = time.is_empty() || time.len() > 5 && time.contains(':');
    year.bytes().all(|byte| byte.is_ascii_digit()) && date && time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    /// What `go.yaml.in/yaml/v2` v2.4.4 made of each scalar.
    #[test]
    fn scalars_mean_what_they_mean_to_go() {
        let text = |text: &str| YamlValue::Text(text.to_owned());
        every(
            [
                ("yes", YamlValue::Bool(true)),
                ("y", YamlValue::Bool(true)),
                ("Off", YamlValue::Bool(false)),
                ("yEs", text("yEs")),
                ("~", YamlValue::Null),
                ("nULL", text("nULL")),
                ("0123", YamlValue::Integer(0o123)),
                ("0o7", YamlValue::Integer(7)),
                ("09", YamlValue::Float(9.0)),
                ("0x1F", YamlValue::Integer(31)),
                ("0xg", text("0xg")),
                ("0b101", YamlValue::Integer(5)),
                ("-0b101", YamlValue::Integer(-5)),
                ("1_000", YamlValue::Integer(1000)),
                ("+1", YamlValue::Integer(1)),
                ("-", text("-")),
                ("--1", text("--1")),
                ("0x-1", text("0x-1")),
                ("1e3", YamlValue::Float(1000.0)),
                ("1e999", text("1e999")),
                (".5", YamlValue::Float(0.5)),
                (".", text(".")),
                ("1.2.3", text("1.2.3")),
                ("5.", YamlValue::Float(5.0)),
                ("12:30:45", text("12:30:45")),
                ("2001-01-01", text("2001-01-01")),
                ("2001-01-01T00:00:00Z", text("2001-01-01T00:00:00Z")),
                ("18446744073709551615", YamlValue::Integer(u64::MAX.into())),
                (
                    "18446744073709551616",
                    YamlValue::Float(18_446_744_073_709_551_616.0),
                ),
                ("127.0.0.1", text("127.0.0.1")),
                ("<<", text("<<")),
            ],
            |(written, expected)| assert_eq!(meaning(written), expected, "{written}"),
        );
        every([".nan", ".inf", "-.Inf"], |written| {
            assert!(matches!(meaning(written), YamlValue::Float(number) if !number.is_finite()));
        });
    }

    #[test]
    fn tags_decide_or_are_refused() {
        let text = |text: &str| Ok(YamlValue::Text(text.to_owned()));
        every(
            [
                ("str", "yes", text("yes")),
                ("foo", "12", text("12")),
                ("binary", "YWJj", text("abc")),
                ("timestamp", "2001-01-01", text("2001-01-01")),
                ("int", "12", Ok(YamlValue::Integer(12))),
                ("float", "12", Ok(YamlValue::Float(12.0))),
                ("null", "", Ok(YamlValue::Null)),
                ("int", "abc", Err(Problem::Tag("int"))),
                ("bool", "5", Err(Problem::Tag("bool"))),
                ("null", "x", Err(Problem::Tag("null"))),
                ("binary", "?", Err(Problem::Tag("binary"))),
                ("timestamp", "x", Err(Problem::Tag("timestamp"))),
            ],
            |(tag, written, expected)| assert_eq!(resolve(Some(tag), written), expected),
        );
    }
}
