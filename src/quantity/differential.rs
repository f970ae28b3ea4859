//! Generated quantities, against `resource.Quantity`: alone, and two compared and added.

use super::{Quantity, QuantityError};
use crate::oracle::{Compared, compare};

#[test]
#[ignore = "cargo xtask differential"]
fn differential_quantity() {
    let check = |input: &str, answer: &str| {
        let read: Result<Vec<Quantity>, _> = input.split(' ').map(str::parse).collect();
        let own = match read.as_deref() {
            // Kubernetes computes with numbers of any size.
            Err(QuantityError::TooLarge) => return Compared::Skipped,
            Err(_) => "refused".to_owned(),
            Ok([one]) => one.to_string(),
            Ok([one, other]) => match one.plus(*other) {
                Some(sum) => format!("{} {sum}", one.cmp(other) as i8),
                None => return Compared::Skipped,
            },
            Ok(_) => unreachable!("at most two"),
        };
        match own == answer {
            true => Compared::Same,
            false => Compared::Differs(format!("{own:?} and {answer:?}")),
        }
    };
    let generate = |random: &mut fastrand::Rng| match random.u8(..3) {
        0 => format!("{} {}", any_quantity(random), any_quantity(random)),
        _ => any_quantity(random),
    };
    compare("quantity", generate, check);
}

fn any_quantity(random: &mut fastrand::Rng) -> String {
    const SIGNS: &[&str] = &["", "", "", "", "-", "+", "--", "-+"];
    const SUFFIXES: &[&str] = &[
        "", "", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi",
        "Ei", "e", "E", "e3", "E3", "e-3", "e+3", "e03", "e9", "e-9", "e-10", "e18", "e19", "e-30",
        "e40", "K", "mi", "ki", "i", "x", "e1.5", "m3", "B", "KiB", "e3m", "µ",
    ];
    const EDGES: &[&str] = &[
        "0",
        "1",
        "9",
        "00",
        "007",
        "1023",
        "1024",
        "1025",
        "999",
        "1000",
        "1048576",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "999999999999999999",
        "1000000000000000000",
        "123456789012345678901234567890",
    ];
    let one = |random: &mut fastrand::Rng, of: &[&'static str]| of[random.usize(..of.len())];
    let digits = |random: &mut fastrand::Rng, most: usize| {
        (0..random.usize(..=most))
            .map(|_| random.digit(10))
            .collect::<String>()
    };
    let mut text = one(random, SIGNS).to_owned();
    match random.u8(..4) {
        0 => text += one(random, EDGES),
        1 => text += &digits(random, 22),
        _ => text += &digits(random, 4),
    }
    if random.u8(..3) == 0 {
        text += ".";
        text += &digits(random, 12);
    }
    if random.u8(..64) == 0 {
        text += [".", "-", "_", ","][random.usize(..4)];
    }
    text + one(random, SUFFIXES)
}
