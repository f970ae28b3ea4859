//! The places of creates that wait between two attempts.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::verdict::Class;

/// `creates.maxHeld` places.
///
/// A wait for a full quota can take an hour, and a few namespaces can have thousands of them. So
/// these waits have half of the places at most, and the others always find the rest.
pub struct HeldPlaces {
    all: Semaphore,
    for_full_quotas: Semaphore,
}

/// A place, until it is dropped.
pub struct HeldPlace<'a> {
    _of_all: SemaphorePermit<'a>,
    _for_full_quotas: Option<SemaphorePermit<'a>>,
}

impl HeldPlaces {
    /// All places are free.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            all: Semaphore::new(max),
            for_full_quotas: Semaphore::new(max.div_ceil(2)),
        }
    }

    /// A place for a create that waits after an answer of `class`. None: there is none for it.
    #[must_use]
    pub fn take(&self, class: Class) -> Option<HeldPlace<'_>> {
        let for_full_quotas = match class {
            Class::ExceededQuota => Some(self.for_full_quotas.try_acquire().ok()?),
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
            let places = HeldPlaces::new(max);
            let taken = |class| std::iter::from_fn(|| places.take(class)).collect::<Vec<_>>();
            let waiting = taken(Class::ExceededQuota);
            assert_eq!(waiting.len(), half);
            assert_eq!(taken(Class::QuotaConflict).len(), max - half);
            drop(waiting);
            // Nothing is kept free for them.
            let others = taken(Class::QuotaConflict);
            assert_eq!(others.len(), max);
            assert!(places.take(Class::ExceededQuota).is_none());
            drop(others);
            assert_eq!(taken(Class::ExceededQuota).len(), half);
        });
    }
}
