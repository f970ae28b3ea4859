//! Warns at the start of settings that work, and that somebody may not have meant.

use tracing::warn;

use crate::config::{self, Config};
use crate::tls;

pub(super) fn warn_of(config: &Config) {
    let settings = config::doubts(config);
    let settings = settings.iter().map(ToString::to_string);
    for doubt in settings.chain(tls::doubts(&config.serving, &config.upstream)) {
        warn!("{doubt}");
    }
}
