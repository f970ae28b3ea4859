//! Quantities: what is printed is read as the same amount, amounts have one order, and sums and
//! differences undo each other. The input is up to three texts, one a line.

#![no_main]

use std::cmp::Ordering;

use kube_retry_proxy::quantity::{Format, Quantity};
use kube_retry_proxy_fuzz::lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut all = Vec::new();
    for line in lines(input).take(3) {
        let Ok(text) = str::from_utf8(line) else {
            return;
        };
        if let Ok(read) = text.parse() {
            printed(read);
            signs(text, read);
            is_about(text, read);
            all.push(read);
        }
    }
    if let [one, other, rest @ ..] = &all[..] {
        arithmetic(*one, *other);
        order(*one, *other, rest.first().copied().unwrap_or_default());
    }
});

/// Kubernetes has no suffix above E, and prints 1000E as 1.
fn printed(read: Quantity) {
    let unit = match read.format() {
        Format::DecimalSi => Quantity::whole(1_000_000_000_000_000_000)
            .nanos()
            .checked_mul(1000),
        // Kubernetes cuts what it reads with a binary suffix to 64 bits.
        Format::BinarySi if read.nanos().abs() > Quantity::whole(i64::MAX).nanos() => return,
        Format::BinarySi => None,
        Format::DecimalExponent => None,
    };
    let has_suffix = unit.is_none_or(|unit| read.nanos() == 0 || read.nanos() % unit != 0);
    if has_suffix {
        let printed = read.to_string();
        let again: Quantity = printed.parse().unwrap();
        assert_eq!(again, read, "{printed}");
        // A binary amount without a suffix is read as a decimal one, which then has one.
        if again.format() == read.format() {
            assert_eq!(again.to_string(), printed);
        }
    }
}

/// A sign and zeros before a number change nothing else.
fn signs(text: &str, read: Quantity) {
    let with = |start: &str| format!("{start}{text}").parse::<Quantity>();
    if text.starts_with(['+', '-']) {
        assert!(with("+").is_err() && with("-").is_err());
        return;
    }
    assert_eq!(with("+"), Ok(read));
    assert_eq!(with("-").map(Quantity::nanos), Ok(-read.nanos()));
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        assert_eq!(with("00"), Ok(read));
    }
}

/// Without a suffix, or with an exponent, a quantity is a number as others read it.
fn is_about(text: &str, read: Quantity) {
    let Ok(number) = text.parse::<f64>() else {
        return;
    };
    let nanos = number * 1e9;
    // The exponent of Kubernetes has 32 bits. What is rounded is rounded away from 0.
    let most = 1.0 + nanos.abs() * 1e-14;
    let difference = read.nanos() as f64 - nanos;
    assert!(
        difference.abs() <= most || text.len() > 1000 || text.contains(['e', 'E']) && nanos == 0.0,
        "{text} is read as {}",
        read.nanos()
    );
}

fn arithmetic(one: Quantity, other: Quantity) {
    if let Some(sum) = one.plus(other) {
        assert_eq!(sum.minus(other), Some(one));
        assert_eq!(other.plus(one), Some(sum));
        assert_eq!(sum > one, other.is_positive());
        printed(sum);
    }
    if let Some(difference) = one.minus(other) {
        assert_eq!(difference.is_positive(), one > other);
        assert_eq!(difference == Quantity::default(), one == other);
        printed(difference);
    }
}

fn order(one: Quantity, other: Quantity, third: Quantity) {
    assert_eq!(one.cmp(&one), Ordering::Equal);
    assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
    assert_eq!(one == other, one.cmp(&other) == Ordering::Equal);
    let mut sorted = [one, other, third];
    sorted.sort();
    let [least, between, most] = sorted;
    assert!(least <= between && between <= most && least <= most);
    assert_eq!(least == most, least == between && between == most);
}
