//! Types of settings that can only have valid values, so that no other code checks them again.
//!
//! The bounds are part of each type. So the range that the file accepts is also the range that the
//! documentation names and that the code relies on.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

/// Attempts of one create, including the first.
pub type Attempts = Count<1, 1000>;
/// Creates of one burst.
pub type Burst = Count<1, 1_000_000>;
/// Client connections.
pub type ConnectionCount = Count<1, 1_000_000>;
/// Creates that wait between attempts. A tokio semaphore can count far more.
pub type Held = Count<1, 1_000_000>;
/// Requests in flight.
pub type Requests = Count<1, 10_000_000>;
/// Concurrent requests on one HTTP/2 connection.
pub type Streams = Count<1, 10_000>;

/// A number is outside of the range of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of range")]
pub struct OutOfRange;

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The smallest one.
    pub const MIN: Self = Self(MIN);
    /// The largest one.
    pub const MAX: Self = Self(MAX);

    /// For constants; values that come from outside go through `TryFrom`.
    ///
    /// # Panics
    /// When `number` is out of range.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        assert!(MIN <= number && number <= MAX, "out of range");
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, as lengths and capacities are counted.
    #[must_use]
    pub const fn size(self) -> usize {
        self.0 as usize
    }

    /// The number as a non-zero integer. Does not compile for a type that includes 0.
    #[must_use]
    pub const fn non_zero(self) -> NonZeroU32 {
        const { assert!(MIN > 0, "the type has a zero") };
        match NonZeroU32::new(self.0) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        }
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for Count<MIN, MAX> {
    type Error = OutOfRange;

    fn try_from(number: u32) -> Result<Self, OutOfRange> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(OutOfRange)
        }
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u64 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0.into()
    }
}

/// A fraction or a multiple from 0 to `MAX`; never NaN.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio<const MAX: u32>(f64);

/// Requests a second, from 0.001 to 1,000,000; never NaN.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Qps(f64);

/// A number between two bounds.
pub(crate) trait BoundedNumber: Copy {
    const MIN: f64;
    const MAX: f64;
    fn checked(number: f64) -> Option<Self>;
    fn number(self) -> f64;
}

macro_rules! real {
    ([$($generics:tt)*] $Type:ty: $min:expr => $max:expr) => {
        impl<$($generics)*> $Type {
            /// For constants; values that come from outside go through `TryFrom`.
            ///
            /// # Panics
            /// When `number` is out of range.
            #[must_use]
            pub const fn new(number: f64) -> Self {
                assert!($min <= number && number <= $max, "out of range");
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl<$($generics)*> BoundedNumber for $Type {
            const MIN: f64 = $min;
            const MAX: f64 = $max;

            fn checked(number: f64) -> Option<Self> {
                ($min..=$max).contains(&number).then_some(Self(number))
            }

            fn number(self) -> f64 {
                self.0
            }
        }

        impl<$($generics)*> TryFrom<f64> for $Type {
            type Error = OutOfRange;

            fn try_from(number: f64) -> Result<Self, OutOfRange> {
                Self::checked(number).ok_or(OutOfRange)
            }
        }
    };
}

real!([const MAX: u32] Ratio<MAX>: 0.0 => MAX as f64);
real!([] Qps: 0.001 => 1_000_000.0);

impl fmt::Display for Qps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time from `MIN_MILLIS` milliseconds to a day. For timers: an interval of 0 would spin, and a
/// time of centuries would overflow the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait<const MIN_MILLIS: u64>(Duration);

impl<const MIN_MILLIS: u64> Wait<MIN_MILLIS> {
    const MIN: Duration = Duration::from_millis(MIN_MILLIS);
    const MAX: Duration = Duration::from_secs(24 * 3600);

    /// For constants; values that come from outside go through `TryFrom`.
    ///
    /// # Panics
    /// When `seconds` is out of range.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        let time = Duration::from_secs(seconds);
        assert!(
            Self::MIN.as_nanos() <= time.as_nanos() && time.as_nanos() <= Self::MAX.as_nanos(),
            "out of range"
        );
        Self(time)
    }

    /// The time.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<const MIN_MILLIS: u64> TryFrom<Duration> for Wait<MIN_MILLIS> {
    type Error = OutOfRange;

    fn try_from(time: Duration) -> Result<Self, OutOfRange> {
        if (Self::MIN..=Self::MAX).contains(&time) {
            Ok(Self(time))
        } else {
            Err(OutOfRange)
        }
    }
}

impl<const MIN_MILLIS: u64> From<Wait<MIN_MILLIS>> for Duration {
    fn from(wait: Wait<MIN_MILLIS>) -> Self {
        wait.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_within_its_bounds() {
        assert_eq!(Attempts::try_from(0), Err(OutOfRange));
        assert_eq!(Attempts::try_from(1001), Err(OutOfRange));
        assert_eq!(Attempts::try_from(1), Ok(Attempts::MIN));
        assert_eq!(Attempts::try_from(1000), Ok(Attempts::MAX));
        assert_eq!(Attempts::MAX.size(), 1000);
        assert_eq!(Attempts::MIN.non_zero(), NonZeroU32::MIN);
    }

    #[test]
    fn a_ratio_and_a_rate_are_numbers_within_their_bounds() {
        for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            assert_eq!(Ratio::<10>::try_from(nonsense), Err(OutOfRange));
            assert_eq!(Qps::try_from(nonsense), Err(OutOfRange));
        }
        assert_eq!(Qps::try_from(0.0), Err(OutOfRange));
        assert_eq!(Ratio::<10>::try_from(1e-300).map(Ratio::get), Ok(1e-300));
        assert_eq!(Ratio::<1>::try_from(1.0), Ok(Ratio::new(1.0)));
    }

    #[test]
    fn a_wait_is_within_its_bounds() {
        for nonsense in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(Wait::<1>::try_from(nonsense), Err(OutOfRange));
        }
        let half_a_minute = Duration::from_secs(30);
        assert_eq!(Wait::<1>::try_from(half_a_minute), Ok(Wait::secs(30)));
        assert_eq!(Wait::try_from(Duration::ZERO), Ok(Wait::<0>::secs(0)));
    }
}
