//! The threads that serve requests.

use std::env;
use std::ffi::OsString;
use std::io;
use std::num::NonZero;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// The variable that Tokio reads too. `serve` has no flag for it, because it belongs to the process
/// and not to what is served.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";
const MAX_WORKER_THREADS: usize = 1024;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The variable does not say how many.
    #[error(
        "{WORKER_THREADS} is {0:?}: expected the number of threads that serve requests, from 1 to {MAX_WORKER_THREADS}"
    )]
    WorkerThreads(OsString),
    /// The system refuses threads or file descriptors.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A runtime with as many threads as [`WORKER_THREADS`] says, or else as there are processors.
///
/// Tokio has another runtime for a single thread, which takes a tenth less processor time than the one
/// for several threads with a single one: bench/README.md.
pub(super) fn runtime() -> Result<Runtime, RuntimeError> {
    let mut builder = match worker_threads(env::var_os(WORKER_THREADS))? {
        1 => Builder::new_current_thread(),
        several => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(several);
            builder
        }
    };
    Ok(builder.enable_all().build()?)
}

fn worker_threads(given: Option<OsString>) -> Result<usize, RuntimeError> {
    let Some(given) = given else {
        return Ok(thread::available_parallelism().map_or(1, NonZero::get));
    };
    let number = given.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MAX_WORKER_THREADS).contains(number))
        .ok_or(RuntimeError::WorkerThreads(given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn the_variable_says_how_many_threads() {
        assert_eq!(worker_threads(Some("1".into())).unwrap(), 1);
        assert_eq!(worker_threads(Some("24".into())).unwrap(), 24);
        assert!(worker_threads(None).unwrap() >= 1);
        every(["0", "", "two", "-1", "1025", "1.5"], |wrong| {
            let error = worker_threads(Some(wrong.into())).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "TOKIO_WORKER_THREADS is {wrong:?}: expected the number of threads that serve \
                     requests, from 1 to 1024"
                )
            );
        });
    }
}
