//! `explain` explains whatever is pasted in a text that a terminal can show.

#![no_main]

use std::sync::LazyLock;

use kube_retry_proxy::cli::explain::explain;
use kube_retry_proxy::config::Config;
use kube_retry_proxy_fuzz::is_printable;
use libfuzzer_sys::fuzz_target;

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

fuzz_target!(|pasted: &[u8]| {
    let text = match explain(pasted, &CONFIG) {
        Ok(explained) => explained.to_string(),
        Err(error) => error.to_string(),
    };
    is_printable(&text, pasted.len());
});
