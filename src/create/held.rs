//! The places of creates that wait between two attempts.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::verdict::Class;

/// The memory of full quotas is counted in pieces of this size.
const PIECE: u64 = 1 << 10;

/// `creates.maxHeld` places.
///
/// A wait for a full quota can take an hour, and a few namespaces can have thousands of them. So
/// these waits have half of the places and half of `creates.maxBuffered` at most, and the others
/// always find the rest.
pub struct HeldPlaces {
    all: Semaphore,
    for_full_quotas: Semaphore,
    /// A permit for each [`PIECE`].
    memory_for_full_quotas: Semaphore,
}

/// A place, until it is dropped.
pub struct HeldPlace<'a> {
    _of_all: SemaphorePermit<'a>,
    _for_full_quotas: Option<[SemaphorePermit<'a>; 2]>,
}

impl HeldPlaces {
    /// All places are free.
    #[must_use]
    pub fn new(max: usize, max_buffered: u64) -> Self {
        let pieces = (max_buffered / PIECE).div_ceil(2);
        let pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
        Self {
            all: Semaphore::new(max),
            for_full_quotas: Semaphore::new(max.div_ceil(2)),
            memory_for_full_quotas: Semaphore::new(pieces.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// A place for a create that waits after an answer of `class` and has reserved so many bytes.
    /// None: there is none for it.
    #[must_use]
    pub fn take(&self, class: Class, reserved: u64) -> Option<HeldPlace<'_>> {
        let for_full_quotas = match class {
            Class::ExceededQuota => {
                let pieces = u32::try_from(reserved.div_ceil(PIECE)).ok()?;
                Some([
                    self.for_full_quotas.try_acquire().ok()?,
                    self.memory_for_full_quotas.try_acquire_many(pieces).ok()?,
                ])
            }
            _ => None,
        };
        Some(HeldPlace {
            _of_all: self.all.try_acquire().ok()?,
            _for_full_quotas: for_full_quotas,
        })
    }

    /// How many places are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn waits_for_full_quotas_have_half_of_the_places() {
        every([(1, 1), (2, 1), (3, 2), (10_000, 5_000)], |(max, half)| {
            let places = HeldPlaces::new(max, 1 << 40);
            let taken = |class| std::iter::from_fn(|| places.take(class, 9)).collect::<Vec<_>>();
            let waiting = taken(Class::ExceededQuota);
            assert_eq!(waiting.len(), half);
            assert_eq!(taken(Class::QuotaConflict).len(), max - half);
            drop(waiting);
            // Nothing is kept free for them.
            let others = taken(Class::QuotaConflict);
            assert_eq!(others.len(), max);
            assert!(places.take(Class::ExceededQuota, 9).is_none());
            drop(others);
            assert_eq!(taken(Class::ExceededQuota).len(), half);
        });
    }

    #[test]
    fn waits_for_full_quotas_have_half_of_the_memory() {
        let places = HeldPlaces::new(100, 10 << 10);
        let large = places.take(Class::ExceededQuota, (4 << 10) + 1);
        assert!(large.is_some());
        assert!(places.take(Class::ExceededQuota, 1).is_none());
        assert!(places.take(Class::QuotaConflict, 4 << 10).is_some());
        drop(large);
        assert!(places.take(Class::ExceededQuota, 5 << 10).is_some());
    }
}
