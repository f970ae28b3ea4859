//! Logging: text or JSON on stderr, like Kubernetes components. `cli` calls [`init`] once. This is
//! the only module that knows tracing-subscriber.
//!
//! The configured level applies to the proxy's own modules. Other crates may log only errors: h2
//! warns about every connection that breaks the protocol, so any client could fill the log. A crate
//! that a directive names may log warnings too, but never more: below `warn`, h2 and hyper print
//! whole headers, bearer tokens included.

use std::error::Error as StdError;
use std::fmt::{self as std_fmt, Display};
use std::io::IsTerminal;

use thiserror::Error;
use tracing::{Level, Metadata, Subscriber, subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::config::{LogFormat, LoggingConfig};

/// Why logging cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `logging.level` cannot be read.
    #[error(
        "the log level {level:?} is neither a level nor a list of directives such as `info,kube_retry_proxy::create=debug`"
    )]
    Level {
        /// The configured level.
        level: String,
        /// Where the level is wrong.
        #[source]
        source: ParseError,
    },
    /// [`init`] was called twice, which is a mistake of the program.
    #[error("logging is already set up")]
    Twice(#[from] subscriber::SetGlobalDefaultError),
}

/// Starts logging for the whole process.
///
/// # Errors
/// The level cannot be read, or logging is set up already.
pub fn init(config: &LoggingConfig) -> Result<(), TelemetryError> {
    // Colours only on a terminal, unless NO_COLOR is set: https://no-color.org
    let ansi = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(subscriber::set_global_default(logger(
        config,
        ansi,
        std::io::stderr,
    )?)?)
}

/// Writes log lines to `writer`. Tests read them from there.
fn logger<W>(
    config: &LoggingConfig,
    ansi: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = EnvFilter::builder()
        .parse(&config.level)
        .map_err(|source| TelemetryError::Level {
            level: config.level.clone(),
            source,
        })?;
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    let named = targets(&config.level);
    Ok(tracing_subscriber::registry().with(
        lines.with_filter(level.and(filter_fn(move |metadata| may_be_logged(metadata, &named)))),
    ))
}

/// Whether the line comes from the proxy itself, or is severe enough for another crate.
fn may_be_logged(metadata: &Metadata<'_>, named: &[String]) -> bool {
    let within = |module: &str| {
        metadata
            .target()
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let cap = if named.iter().any(|module| within(module)) {
        Level::WARN
    } else {
        Level::ERROR
    };
    within(env!("CARGO_CRATE_NAME")) || *metadata.level() <= cap
}

/// The modules that a level such as `info,h2=warn` names.
fn targets(level: &str) -> Vec<String> {
    let names = level
        .split(',')
        .filter_map(|directive| directive.split(['=', '[']).next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// An error with all its causes: on one line, each after a colon, or with `{:#}` each on a line of
/// its own, as people read them in a terminal.
pub fn chain(error: &dyn StdError) -> impl Display {
    std_fmt::from_fn(move |f| {
        write!(f, "{error}")?;
        for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
            if f.alternate() {
                // The cause may be a list of mistakes, one on each line.
                let lines = cause.to_string().replace('\n', "\n    ");
                write!(f, "\n  caused by: {lines}")?;
            } else {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use crate::rows::every;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, trace, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log of `events` with this configuration.
    fn logged(format: LogFormat, level: &str, events: impl FnOnce()) -> String {
        let lines = LogBuffer::default();
        let writer = lines.clone();
        let logger = logger(
            &LoggingConfig {
                format,
                level: level.into(),
            },
            false,
            move || writer.clone(),
        )
        .unwrap();
        subscriber::with_default(logger, events);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_level_holds_for_our_own_modules() {
        let text = logged(LogFormat::Text, "info", || {
            info!(namespace = "argo", "Shown");
            debug!("Hidden");
        });
        assert!(
            text.contains("INFO") && text.contains("Shown") && text.contains("argo"),
            "{text}"
        );
        assert!(!text.contains("Hidden"), "{text}");
    }

    #[test]
    fn directives_single_out_a_module() {
        let text = logged(
            LogFormat::Text,
            "warn,kube_retry_proxy::create=debug",
            || {
                debug!(target: "kube_retry_proxy::create", "Shown");
                info!(target: "kube_retry_proxy::listener", "Hidden");
            },
        );
        assert!(text.contains("Shown") && !text.contains("Hidden"), "{text}");
    }

    #[test]
    fn other_crates_never_log_above_warn() {
        every(
            [
                "trace",
                "h2=trace,hyper=trace",
                "kube_retry_proxy=trace,[request]=trace,h2::codec=debug",
            ],
            |level| {
                let text = logged(LogFormat::Text, level, || {
                    trace!(target: "h2::codec", "authorization: secret");
                    debug!(target: "hyper::proto", "authorization: secret");
                    info!(target: "kube_retry_proxy_lookalike", "secret");
                });
                assert!(!text.contains("secret"), "{level}: {text}");
            },
        );
    }

    #[test]
    fn other_crates_warn_only_where_they_are_named() {
        let warned = |level| {
            logged(LogFormat::Text, level, || {
                warn!(target: "h2::proto", "Odd");
                error!(target: "h2", "Broken");
            })
        };
        every(
            [
                "info",
                "trace",
                "info,h=warn",
                "info,rustls=warn",
                "[h2]=warn",
            ],
            |level| {
                let text = warned(level);
                assert!(!text.contains("Odd"), "{level}: {text}");
            },
        );
        assert!(warned("info").contains("Broken"));
        every(
            [
                "info,h2=warn",
                "info,h2::proto=trace",
                "info,h2",
                "h2[span]=info,info",
            ],
            |level| {
                let text = warned(level);
                assert!(text.contains("Odd"), "{level}: {text}");
            },
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(LogFormat::Json, "info", || {
            info!(attempt = 2, "First");
            info!("Second\nline");
        });
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (
                &lines[0]["message"],
                &lines[0]["attempt"],
                &lines[0]["level"]
            ),
            (&"First".into(), &2.into(), &"INFO".into())
        );
    }

    #[test]
    fn an_error_prints_its_causes_on_one_line_or_on_a_line_each() {
        #[derive(Debug, Error)]
        #[error("the demo failed")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("two mistakes:\na\nb"));
        assert_eq!(
            chain(&error).to_string(),
            "the demo failed: two mistakes:\na\nb"
        );
        assert_eq!(
            format!("{:#}", chain(&error)),
            "the demo failed\n  caused by: two mistakes:\n    a\n    b"
        );
    }

    #[test]
    fn a_level_that_cannot_be_read_is_an_error() {
        let error = logger(
            &LoggingConfig {
                format: LogFormat::Text,
                level: "loud=very".into(),
            },
            false,
            io::sink,
        )
        .err()
        .unwrap();
        assert!(matches!(error, TelemetryError::Level { .. }), "{error}");
    }
}
