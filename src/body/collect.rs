//! Reads a body into memory, within limits. No other code collects a body.
//!
//! Chunks are joined as they come, because a chunk of one byte occupies a hundred bytes. A body
//! that comes in one chunk, as most do, is not copied. Memory is reserved before the buffer grows.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};

use super::memory::Reservation;
use super::{Body, BodyError, Buffered};
use crate::headers;

/// The smallest buffer for joined chunks.
const MIN_CAPACITY: usize = 8 << 10;

/// When other creates wait for room, a body that pauses for this long is no longer read into
/// memory.
const STALLED_AFTER: Duration = Duration::from_millis(250);

/// The result of [`collect_within`].
#[derive(Debug)]
pub enum Collected {
    /// The whole body is in memory. The caller keeps the reservation for as long.
    Whole(Buffered, Reservation),
    /// The body is larger than the limit.
    TooLarge,
    /// The reservation could not grow.
    OverBudget,
    /// The body did not arrive in time, or paused while others waited for room.
    TooSlow,
}

/// Reads a body of at most `limit` bytes into memory. None if the body is larger; `body` then still
/// yields every byte.
///
/// # Errors
/// The peer's body broke off.
pub async fn collect_bounded<G: Unpin>(
    body: &mut Body<G>,
    limit: u64,
) -> Result<Option<Buffered>, BodyError> {
    // A declared length beyond the limit is refused before anything is read. Nothing else relies on
    // a declared length.
    if body.size_hint().lower() > limit {
        return Ok(None);
    }
    let mut collecting = Collecting::default();
    let mut trailers = None;
    let max_size = max_size(body, limit);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                collecting.push(data, max_size);
                if collecting.len() as u64 > limit {
                    body.put_back(collecting.into_bytes(), None);
                    return Ok(None);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().map(Box::new),
        }
    }
    Ok(Some(Buffered {
        data: collecting.into_bytes(),
        trailers,
    }))
}

/// Like [`collect_bounded`], but only while `room` can grow, and until `until`, if there is such a
/// time. If the result is not `Whole`, `body` still yields every byte.
///
/// # Errors
/// The peer's body broke off.
pub async fn collect_within<G: Unpin>(
    body: &mut Body<G>,
    limit: u64,
    mut room: Reservation,
    until: Option<Instant>,
) -> Result<Collected, BodyError> {
    if body.size_hint().lower() > limit {
        return Ok(Collected::TooLarge);
    }
    let max_size = max_size(body, limit);
    let mut collecting = Collecting::default();
    let mut trailers = None;
    let excess = loop {
        let next = tokio::select! {
            biased;
            next = body.frame() => next,
            () = stalled(&room, until) => break Collected::TooSlow,
        };
        let Some(frame) = next else {
            room.shrink(collecting.spare() as u64);
            return Ok(Collected::Whole(
                Buffered {
                    data: collecting.into_bytes(),
                    trailers,
                },
                room,
            ));
        };
        match frame?.into_data() {
            Ok(data) => {
                let more = collecting.more_for(data.len(), max_size);
                let granted = more == 0 || room.grow(more as u64).await;
                collecting.push(data, max_size);
                if collecting.len() as u64 > limit {
                    break Collected::TooLarge;
                }
                if !granted {
                    break Collected::OverBudget;
                }
            }
            Err(frame) => {
                trailers = frame.into_trailers().ok().map(Box::new);
                // The trailers are in memory already, and their size has the limit of a head. So it
                // does not matter whether the reservation can grow.
                let _fits = room
                    .grow(trailers.as_deref().map_or(0, headers::size) as u64)
                    .await;
            }
        }
    };
    body.put_back(collecting.into_bytes(), Some(room));
    Ok(excess)
}

/// Returns when the proxy should stop reading a body into memory.
async fn stalled(room: &Reservation, until: Option<Instant>) {
    let too_late = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = too_late => {}
        () = room.wanted(Instant::now() + STALLED_AFTER) => {}
    }
}

/// The largest size that the body can have, at most `limit`.
fn max_size<G: Unpin>(body: &Body<G>, limit: u64) -> usize {
    usize::try_from(body.size_hint().upper().unwrap_or(limit).min(limit)).unwrap_or(usize::MAX)
}

/// The bytes of a body that have arrived.
#[derive(Debug, Default)]
enum Collecting {
    #[default]
    Nothing,
    /// One chunk, as it arrived.
    One(Bytes),
    Joined(Vec<u8>),
}

impl Collecting {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(data) => data.len(),
            Self::Joined(buffer) => buffer.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(data) => data.len(),
            Self::Joined(buffer) => buffer.capacity(),
        }
    }

    /// By how much the memory grows with the next `length` bytes of a body of at most `max_size`.
    fn more_for(&self, length: usize, max_size: usize) -> usize {
        let whole = self.len() + length;
        let capacity = self.capacity();
        if matches!(self, Self::Nothing) {
            length
        } else if whole <= capacity && matches!(self, Self::Joined(_)) {
            0
        } else {
            let doubled = capacity.saturating_mul(2).max(MIN_CAPACITY).min(max_size);
            doubled.max(whole).saturating_sub(capacity)
        }
    }

    /// Adds a chunk. The memory grows by [`Self::more_for`].
    fn push(&mut self, data: Bytes, max_size: usize) {
        let capacity = self.capacity() + self.more_for(data.len(), max_size);
        *self = match std::mem::take(self) {
            Self::Nothing => Self::One(data),
            // HTTP/2 bodies can end with an empty frame.
            kept if data.is_empty() => kept,
            Self::One(first) => {
                let mut buffer = Vec::with_capacity(capacity);
                buffer.extend_from_slice(&first);
                buffer.extend_from_slice(&data);
                Self::Joined(buffer)
            }
            Self::Joined(mut buffer) => {
                buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
                buffer.extend_from_slice(&data);
                Self::Joined(buffer)
            }
        };
    }

    /// The memory that [`Self::into_bytes`] frees.
    fn spare(&self) -> usize {
        self.capacity() - self.len()
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(data) => data,
            Self::Joined(mut buffer) => {
                buffer.shrink_to_fit();
                buffer.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collecting(chunks: &[&'static [u8]], max_size: usize) -> (Collecting, usize) {
        let mut collecting = Collecting::default();
        let mut reserved = 0;
        for chunk in chunks {
            reserved += collecting.more_for(chunk.len(), max_size);
            collecting.push(Bytes::from_static(chunk), max_size);
            assert!(
                collecting.capacity() <= reserved,
                "nothing is occupied that is not reserved"
            );
        }
        (collecting, reserved)
    }

    #[test]
    fn a_body_of_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"abc");
        let mut collecting = Collecting::default();
        collecting.push(chunk.clone(), 3);
        collecting.push(Bytes::new(), 0);
        assert_eq!(collecting.into_bytes().as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn chunks_are_joined_in_reserved_memory() {
        let (joined, reserved) = collecting(&[b"ab", b"c", b"", b"d"], 1 << 20);
        assert_eq!((joined.len(), reserved), (4, MIN_CAPACITY));
        assert_eq!(joined.spare(), MIN_CAPACITY - 4);
        assert_eq!(joined.into_bytes(), "abcd");
        assert_eq!(collecting(&[], 1).0.into_bytes(), "");
    }

    #[test]
    fn a_buffer_doubles_up_to_the_size_that_the_body_can_have() {
        let chunk: &'static [u8] = &[7; 10_000];
        let (_, reserved) = collecting(&[chunk, chunk, chunk], 30_000);
        assert_eq!(reserved, 30_000);
        let (_, reserved) = collecting(&[chunk, chunk, chunk], 1 << 20);
        assert_eq!(reserved, 40_000);
        let (lied, reserved) = collecting(&[chunk, chunk], 10_001);
        assert_eq!(
            (lied.len(), reserved),
            (20_000, 20_000),
            "more than there can be is still held whole"
        );
    }
}
