//! Connects to a name that can have several addresses, of which some may be dead.
//!
//! The name is resolved for each connection, and nothing about its addresses is remembered: what
//! was dead can be alive, and the next answer of the resolver can have other addresses. So the
//! first address of a name costs as much each time as it takes to leave it.
//!
//! - An address that fails is left at once, whether it refuses the connection or fails what
//!   follows, such as TLS: behind one name there can be servers of different ages.
//! - An address that does not answer gets company after 250 ms, and goes on trying (RFC 8305).
//!   Go's dialer instead gives each address its share of the timeout, but at least two seconds,
//!   and only starts the second family of addresses early. With the default timeout of five
//!   seconds every connection would then take seconds while the first address is dead.
//! - An address that has accepted the connection gets its share of the remaining time before
//!   another one is tried. A handshake takes long when the server is busy, and a second one would
//!   only add to that.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::socket;
use crate::telemetry::chain;

/// How long an address may take to accept before the next one is tried beside it: the value that
/// RFC 8305 §5 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// How many addresses of a name are tried for one connection.
const MAX_ADDRESSES: usize = 16;

/// Why there is no connection. `E` is the error of what follows the TCP connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError<E: Error + 'static> {
    /// The name has no address, or the resolver failed.
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// The resolver did not answer in time.
    #[error("the name was not resolved in time")]
    ResolveTimeout,
    /// The address was given, and failed.
    #[error(transparent)]
    Address(Failure<E>),
    /// Every address of the name failed.
    #[error("{}", words(.0))]
    Name(Vec<FailedAddress<E>>),
}

/// An address of a name, and why there is no connection to it.
#[derive(Debug)]
pub struct FailedAddress<E: Error + 'static> {
    address: SocketAddr,
    failure: Failure<E>,
}

/// Why there is no connection to an address.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E: Error + 'static> {
    /// The system's: refused, or without a route.
    #[error(transparent)]
    Tcp(io::Error),
    /// What follows the TCP connection failed.
    #[error(transparent)]
    Followed(E),
    /// The address did not answer.
    #[error("timed out")]
    NoAnswer,
    /// What follows did not end in time.
    #[error("accepted the connection, then timed out")]
    Stalled,
    /// Other addresses took all the time.
    #[error("not tried, no time was left")]
    NotTried,
}

/// Connects to `host` (a name or an address), and does what follows on the connection. The first
/// address for which both succeed wins. All of it takes at most `within`.
///
/// # Errors
/// Says of each address what happened.
pub async fn dial<T, E, F>(
    (host, port): (&str, u16),
    within: Duration,
    then: impl Fn(TcpStream) -> F,
) -> Result<T, DialError<E>>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + within;
    let resolved = timeout_at(deadline, lookup_host((host, port))).await;
    let addresses = resolved
        .map_err(|_| DialError::ResolveTimeout)?
        .map_err(DialError::Resolve)?;
    let raced = race(addresses.collect(), deadline, socket::connect, then).await;
    raced.map_err(|mut failed| match failed.pop() {
        Some(only) if failed.is_empty() && is_address(host) => DialError::Address(only.failure),
        last => {
            failed.extend(last);
            DialError::Name(failed)
        }
    })
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// Races the connections to `addresses`. Returns all that failed, if none wins.
async fn race<S, T, E, C, F>(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> C,
    then: impl Fn(S) -> F,
) -> Result<T, Vec<FailedAddress<E>>>
where
    E: Error + 'static,
    C: Future<Output = io::Result<S>>,
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = VecDeque::from(in_order(addresses));
    let mut running: Vec<Attempt<C, F>> = Vec::new();
    let mut failed = Vec::new();
    // When the last attempt began. None if the next one need not wait for it.
    let mut began = None;
    loop {
        let now = Instant::now();
        if now >= deadline {
            failed.extend(running.into_iter().map(Attempt::timed_out));
            failed.extend(waiting.into_iter().map(FailedAddress::not_tried));
            return Err(sorted(failed));
        }
        let due = match began {
            None => now,
            Some(began) if running.iter().any(Attempt::is_accepted) => {
                let sharing = u32::try_from(waiting.len() + 1).unwrap_or(u32::MAX);
                began + deadline.saturating_duration_since(began) / sharing
            }
            Some(began) => began + STAGGER,
        };
        if now >= due
            && let Some(address) = waiting.pop_front()
        {
            running.push(Attempt {
                address,
                stage: Stage::Tcp(Box::pin(connect(address))),
            });
            began = Some(now);
            continue;
        }
        if running.is_empty() {
            return Err(sorted(failed));
        }
        let wake = if waiting.is_empty() { deadline } else { due };
        tokio::select! {
            biased;
            progress = poll_fn(|cx| poll_all(&mut running, &then, cx)) => match progress {
                Progress::Accepted => {}
                Progress::Done(done) => return Ok(done),
                Progress::Failed(address) => {
                    failed.push(address);
                    // One that is in its handshake needs no company, only its share of the time.
                    if !running.iter().any(Attempt::is_accepted) {
                        began = None;
                    }
                }
            },
            () = sleep_until(wake.min(deadline)) => {}
        }
    }
}

/// The connection to one address.
struct Attempt<C, F> {
    address: SocketAddr,
    stage: Stage<C, F>,
}

enum Stage<C, F> {
    Tcp(Pin<Box<C>>),
    /// The address has accepted the connection.
    Following(Pin<Box<F>>),
}

enum Progress<T, E: Error + 'static> {
    Accepted,
    Done(T),
    Failed(FailedAddress<E>),
}

impl<C, F> Attempt<C, F> {
    fn is_accepted(&self) -> bool {
        matches!(self.stage, Stage::Following(_))
    }

    fn timed_out<E: Error + 'static>(self) -> FailedAddress<E> {
        let failure = match self.stage {
            Stage::Tcp(_) => Failure::NoAnswer,
            Stage::Following(_) => Failure::Stalled,
        };
        FailedAddress {
            address: self.address,
            failure,
        }
    }
}

/// Polls each attempt, and removes the one that fails.
fn poll_all<S, T, E, C, F>(
    running: &mut Vec<Attempt<C, F>>,
    then: &impl Fn(S) -> F,
    cx: &mut Context<'_>,
) -> Poll<Progress<T, E>>
where
    E: Error + 'static,
    C: Future<Output = io::Result<S>>,
    F: Future<Output = Result<T, E>>,
{
    for index in 0..running.len() {
        let attempt = &mut running[index];
        let failure = match &mut attempt.stage {
            Stage::Tcp(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => continue,
                Poll::Ready(Ok(stream)) => {
                    attempt.stage = Stage::Following(Box::pin(then(stream)));
                    return Poll::Ready(Progress::Accepted);
                }
                Poll::Ready(Err(error)) => Failure::Tcp(error),
            },
            Stage::Following(following) => match following.as_mut().poll(cx) {
                Poll::Pending => continue,
                Poll::Ready(Ok(done)) => return Poll::Ready(Progress::Done(done)),
                Poll::Ready(Err(error)) => Failure::Followed(error),
            },
        };
        let Attempt { address, .. } = running.remove(index);
        return Poll::Ready(Progress::Failed(FailedAddress { address, failure }));
    }
    Poll::Pending
}

impl<E: Error + 'static> FailedAddress<E> {
    fn not_tried(address: SocketAddr) -> Self {
        Self {
            address,
            failure: Failure::NotTried,
        }
    }
}

/// The resolver's order, without duplicates, with the two families in turn (RFC 8305 §4): a host
/// without a route for one family should not spend its time on all addresses of it.
fn in_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::new();
    while let Some(address) = first.pop_front() {
        if !ordered.contains(&address) {
            ordered.push(address);
        }
        if !second.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

/// In the order of the addresses. Resolvers change theirs, and the same failure should not look
/// like a new one.
fn sorted<E: Error + 'static>(mut failed: Vec<FailedAddress<E>>) -> Vec<FailedAddress<E>> {
    failed.sort_by_key(|failed| failed.address);
    failed
}

/// `10.0.0.1:6443: connection refused; 10.0.0.2:6443: timed out`
fn words<E: Error + 'static>(failed: &[FailedAddress<E>]) -> impl fmt::Display {
    if failed.is_empty() {
        return "the name has no address".to_owned();
    }
    let words =
        |failed: &FailedAddress<E>| format!("{}: {}", failed.address, chain(&failed.failure));
    failed.iter().map(words).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
