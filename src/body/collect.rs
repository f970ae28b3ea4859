//! Reads a body into memory, within bounds. The only place where one is gathered.
//!
//! Chunks are joined as they come, since a chunk of one byte occupies a hundred; a body that comes
//! in one piece, as most do, is not copied. What the buffer may grow to is reserved before it
//! grows.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};

use super::memory::Reservation;
use super::{Body, BodyError, Buffered};
use crate::headers;

/// The least that a buffer grows to, once it must.
const FIRST: usize = 8 << 10;

/// A body that comes without a pause of this length is not passed over for others that wait for
/// room.
const STALL: Duration = Duration::from_millis(250);

/// What came of [`collect_within`].
#[derive(Debug)]
pub enum Collected {
    /// All of it is in memory, as long as the reservation lives.
    Whole(Buffered, Reservation),
    /// It is larger than the limit.
    TooLarge,
    /// The reservation could not grow.
    OverBudget,
    /// It did not all come in time, or stood still while others waited for room.
    TooSlow,
}

/// Reads a body of at most `limit` bytes into memory; None where it is larger.
///
/// # Errors
/// The peer's body broke off.
pub async fn collect_bounded<G: Unpin>(
    body: &mut Body<G>,
    limit: u64,
) -> Result<Option<Buffered>, BodyError> {
    // What is declared is judged before anything is read, and trusted for nothing else.
    if body.size_hint().lower() > limit {
        return Ok(None);
    }
    let mut gathered = Gathered::default();
    let mut trailers = None;
    let most = most(body, limit);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                gathered.push(data, most);
                if gathered.len() as u64 > limit {
                    body.unread(gathered.into_bytes(), None);
                    return Ok(None);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Some(Buffered {
        data: gathered.into_bytes(),
        trailers,
    }))
}

/// As [`collect_bounded`], as far as `room` grants it, and until `until`. Where it is not `Whole`
/// nothing is lost: `body` still yields every byte.
///
/// # Errors
/// The peer's body broke off.
pub async fn collect_within(
    body: &mut Body,
    limit: u64,
    mut room: Reservation,
    until: Instant,
) -> Result<Collected, BodyError> {
    if body.size_hint().lower() > limit {
        return Ok(Collected::TooLarge);
    }
    let most = most(body, limit);
    let mut gathered = Gathered::default();
    let mut trailers = None;
    let excess = loop {
        let next = tokio::select! {
            biased;
            next = body.frame() => next,
            () = stalled(&room, until) => break Collected::TooSlow,
        };
        let Some(frame) = next else {
            room.shrink(gathered.spare() as u64);
            return Ok(Collected::Whole(
                Buffered {
                    data: gathered.into_bytes(),
                    trailers,
                },
                room,
            ));
        };
        match frame?.into_data() {
            Ok(data) => {
                let more = gathered.more_for(data.len(), most);
                let granted = more == 0 || room.grow(more as u64).await;
                gathered.push(data, most);
                if gathered.len() as u64 > limit {
                    break Collected::TooLarge;
                }
                if !granted {
                    break Collected::OverBudget;
                }
            }
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                // They are here, and within the bound of a head, whether they fit or not.
                let _fits = room
                    .grow(trailers.as_ref().map_or(0, headers::size) as u64)
                    .await;
            }
        }
    };
    body.unread(gathered.into_bytes(), Some(room));
    Ok(excess)
}

/// Returns when a body has to come no more.
async fn stalled(room: &Reservation, until: Instant) {
    tokio::select! {
        () = sleep_until(until) => {}
        () = room.wanted(Instant::now() + STALL) => {}
    }
}

/// What a body can be, of which no more than `limit` is read.
fn most<G: Unpin>(body: &Body<G>, limit: u64) -> usize {
    usize::try_from(body.size_hint().upper().unwrap_or(limit).min(limit)).unwrap_or(usize::MAX)
}

/// What has come of a body.
#[derive(Debug, Default)]
enum Gathered {
    #[default]
    Nothing,
    /// As it came.
    One(Bytes),
    Joined(Vec<u8>),
}

impl Gathered {
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

    /// By how much the memory grows when `length` bytes come, of a body of at most `most`.
    fn more_for(&self, length: usize, most: usize) -> usize {
        let whole = self.len() + length;
        let capacity = self.capacity();
        if matches!(self, Self::Nothing) {
            length
        } else if whole <= capacity && matches!(self, Self::Joined(_)) {
            0
        } else {
            let doubled = capacity.saturating_mul(2).max(FIRST).min(most);
            doubled.max(whole).saturating_sub(capacity)
        }
    }

    /// Adds what came; the memory grows as [`Self::more_for`] has it.
    fn push(&mut self, data: Bytes, most: usize) {
        let capacity = self.capacity() + self.more_for(data.len(), most);
        *self = match std::mem::take(self) {
            Self::Nothing => Self::One(data),
            // A last frame without data, as HTTP/2 ends with.
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

    /// The memory that [`Self::into_bytes`] gives back.
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

    fn gathered(chunks: &[&'static [u8]], most: usize) -> (Gathered, usize) {
        let mut gathered = Gathered::default();
        let mut reserved = 0;
        for chunk in chunks {
            reserved += gathered.more_for(chunk.len(), most);
            gathered.push(Bytes::from_static(chunk), most);
            assert!(
                gathered.capacity() <= reserved,
                "nothing is occupied that is not reserved"
            );
        }
        (gathered, reserved)
    }

    #[test]
    fn one_chunk_is_kept_as_it_is() {
        let chunk = Bytes::from_static(b"abc");
        let mut gathered = Gathered::default();
        gathered.push(chunk.clone(), 3);
        gathered.push(Bytes::new(), 0);
        assert_eq!(gathered.into_bytes().as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn chunks_are_joined_within_what_is_reserved() {
        let (joined, reserved) = gathered(&[b"ab", b"c", b"", b"d"], 1 << 20);
        assert_eq!((joined.len(), reserved), (4, FIRST));
        assert_eq!(joined.spare(), FIRST - 4);
        assert_eq!(joined.into_bytes(), "abcd");
        assert_eq!(gathered(&[], 1).0.into_bytes(), "");
    }

    #[test]
    fn a_buffer_doubles_up_to_what_the_body_can_be() {
        let chunk: &'static [u8] = &[7; 10_000];
        let (_, reserved) = gathered(&[chunk, chunk, chunk], 30_000);
        assert_eq!(reserved, 30_000);
        let (_, reserved) = gathered(&[chunk, chunk, chunk], 1 << 20);
        assert_eq!(reserved, 40_000);
        let (lied, reserved) = gathered(&[chunk, chunk], 10_001);
        assert_eq!(
            (lied.len(), reserved),
            (20_000, 20_000),
            "more than there can be is still held whole"
        );
    }
}
