//! Quantities: what is printed is read as the same amount, and sums and differences undo each other.
//! The input is two texts, one a line.

#![no_main]

use kube_retry_proxy::quantity::Quantity;
use kube_retry_proxy_fuzz::lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let read = |line: Option<&[u8]>| str::from_utf8(line?).ok()?.parse::<Quantity>().ok();
    let mut all = lines(input);
    let Some(one) = read(all.next()) else { return };
    let printed = one.to_string();
    let again: Quantity = printed.parse().unwrap();
    assert_eq!((again, again.to_string()), (one, printed));
    let Some(other) = read(all.next()) else {
        return;
    };
    if let Some(sum) = one.plus(other) {
        assert_eq!(sum.minus(other), Some(one));
        assert_eq!(other.plus(one), Some(sum));
        assert_eq!(sum > one, other.is_positive());
    }
    if let Some(difference) = one.minus(other) {
        assert_eq!(difference.is_positive(), one > other);
        assert_eq!(difference == Quantity::default(), one == other);
    }
});
