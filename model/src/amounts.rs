//! Resource amounts: what a pod uses and what a quota allows, in thousandths of a unit.
//!
//! Supports the part of Kubernetes' `resource.Quantity` that quotas on pods need. It prints amounts
//! as the apiserver does in its messages. This module does no IO.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Amounts by resource name (`pods`, `requests.cpu`, …), in thousandths of a unit; memory counts
/// bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i128>);

impl Amounts {
    /// Amounts of no resource.
    pub fn new() -> Amounts {
        Amounts::default()
    }

    /// Parses quantities such as `("requests.cpu", "500m")`. Returns `None` if one of them is
    /// malformed.
    pub fn parse<'a>(quantities: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Amounts> {
        let amounts = quantities
            .into_iter()
            .map(|(name, quantity)| Some((name.to_owned(), parse_quantity(quantity)?)));
        amounts.collect::<Option<_>>().map(Amounts)
    }

    /// The amount of one resource in thousandths; `None` if the resource is not listed.
    pub fn milli(&self, name: &str) -> Option<i128> {
        self.0.get(name).copied()
    }

    /// The amount of one resource in whole units, 0 if it is not listed: `whole("pods")` is a
    /// number of pods.
    pub fn whole(&self, name: &str) -> i64 {
        i64::try_from(self.milli(name).unwrap_or(0) / 1000).unwrap_or(i64::MAX)
    }

    /// Sets the amount of one resource, in thousandths.
    pub fn set(&mut self, name: &str, milli: i128) {
        self.0.insert(name.to_owned(), milli);
    }

    /// The names of the listed resources, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Keeps only the resources that `names` lists as well.
    pub fn masked(&self, names: &Amounts) -> Amounts {
        Amounts(
            self.0
                .iter()
                .filter(|(name, _)| names.0.contains_key(*name))
                .map(|(name, milli)| (name.clone(), *milli))
                .collect(),
        )
    }

    /// Adds the amounts of `other`.
    pub fn add(&mut self, other: &Amounts) {
        for (name, milli) in &other.0 {
            *self.0.entry(name.clone()).or_default() += milli;
        }
    }

    /// Subtracts the amounts of `other`.
    pub fn subtract(&mut self, other: &Amounts) {
        for (name, milli) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= milli;
        }
    }

    /// The resources whose amount is larger than their limit in `hard`.
    pub fn exceeding(&self, hard: &Amounts) -> Amounts {
        let exceeds =
            |name: &String, milli: &i128| hard.0.get(name).is_some_and(|limit| milli > limit);
        Amounts(
            self.0
                .iter()
                .filter(|(name, milli)| exceeds(name, milli))
                .map(|(name, milli)| (name.clone(), *milli))
                .collect(),
        )
    }

    /// Whether every amount is zero.
    pub fn is_zero(&self) -> bool {
        self.0.values().all(|milli| *milli == 0)
    }

    /// Names and quantities in the format of the API.
    pub fn quantities(&self) -> impl Iterator<Item = (&str, String)> {
        self.0
            .iter()
            .map(|(name, milli)| (name.as_str(), format_quantity(name, *milli)))
    }

    /// The amounts as they appear in the apiserver's messages: `pods=1,requests.cpu=10m`.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L697-L712>
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        for (name, quantity) in self.quantities() {
            let comma = if out.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(out, "{comma}{name}={quantity}");
        }
        out
    }
}

/// Suffixes with their factors in thousandths.
const SUFFIXES: [(&str, i128); 12] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("", 1000),
];

fn parse_quantity(text: &str) -> Option<i128> {
    let (digits, unit) = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = !digits.is_empty()
        && whole
            .chars()
            .chain(fraction.chars())
            .all(|c| c.is_ascii_digit());
    if !all_digits || whole.len() > 18 || fraction.len() > 9 {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    whole
        .checked_mul(unit)?
        .checked_add(fraction * unit / scale)
}

fn format_quantity(name: &str, milli: i128) -> String {
    if milli % 1000 != 0 {
        return format!("{milli}m");
    }
    if name.ends_with("memory") && milli != 0 {
        let binary = SUFFIXES[..5]
            .iter()
            .rev()
            .find(|(_, unit)| milli % unit == 0);
        if let Some((suffix, unit)) = binary {
            return format!("{}{suffix}", milli / unit);
        }
    }
    (milli / 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_quantities_as_the_apiserver_prints_them() {
        for (name, text, milli, printed) in [
            ("requests.cpu", "10m", 10, "10m"),
            ("requests.cpu", "0.5", 500, "500m"),
            ("requests.cpu", "5", 5000, "5"),
            ("requests.memory", "80Mi", 83_886_080_000, "80Mi"),
            ("requests.memory", "1Gi", 1_073_741_824_000, "1Gi"),
            ("requests.memory", "1000", 1_000_000, "1000"),
            ("pods", "2k", 2_000_000, "2000"),
        ] {
            let amounts = Amounts::parse([(name, text)]).unwrap();
            assert_eq!(amounts.milli(name), Some(milli), "{text}");
            assert_eq!(amounts.pretty(), format!("{name}={printed}"));
        }
    }

    #[test]
    fn rejects_malformed_quantities() {
        for text in ["", "m", "abc", "-1", "1e3x", "1.2.3", "Mi"] {
            assert_eq!(Amounts::parse([("pods", text)]), None, "{text:?}");
        }
    }
}
