//! The status page: a [`Snapshot`] as HTML, whole or section by section. Pure.
//!
//! The document contains its style and its script, and a content security policy forbids everything
//! else. The page is complete without scripts. The script only replaces sections by newer ones.

mod chart;
mod elements;
mod html;
mod sections;

use std::fmt::{self, Write};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};

use crate::snapshot::Snapshot;
use html::Text;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page's `Content-Security-Policy`. It allows the page's own style and script, requests to
/// this server, and the empty icon that keeps browsers from asking for one.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| {
        format!(
            "'sha256-{}'",
            BASE64.encode(digest(&SHA256, text.as_bytes()))
        )
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// Writes one section.
type WriteSection = fn(&mut String, &Snapshot) -> fmt::Result;

/// The parts of the page below the headline: the CSS class and the sections of each. A section
/// writes exactly one element.
const PARTS: [(&str, &[WriteSection]); 4] = [
    ("whole", &[sections::conflicts]),
    (
        "half",
        &[
            sections::namespaces,
            sections::resources,
            sections::outcomes,
            sections::held,
        ],
    ),
    ("half", &[sections::servers, sections::limits]),
    ("whole", &[sections::decisions]),
];

/// The elements that change, the headline first. The script finds the element to replace by its id.
pub(super) fn live(snapshot: &Snapshot) -> Vec<String> {
    let sections = PARTS.iter().flat_map(|(_, sections)| *sections);
    std::iter::once(&(sections::headline as WriteSection))
        .chain(sections)
        .map(|section| written(|out| section(out, snapshot)))
        .collect()
}

/// The whole document.
pub(super) fn page(snapshot: &Snapshot) -> String {
    written(|out| {
        write!(
            out,
            r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>kube-retry-proxy: {mode}, {ready}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the numbers</a>
<header>
<h1>kube-retry-proxy</h1>
{headline}
<p class="live"><span id="live" role="status"></span> <button id="pause" type="button" hidden>Pause</button></p>
<noscript><p class="live">Scripts are off. Reload the page for newer numbers.</p></noscript>
</header>
<main id="main" tabindex="-1">
"##,
            headline = written(|out| sections::headline(out, snapshot)),
            mode = Text(&snapshot.mode),
            ready = if snapshot.is_ready() {
                "ready"
            } else {
                "not ready"
            },
        )?;
        for (class, sections) in PARTS {
            writeln!(out, "<div class=\"{class}\">")?;
            sections
                .iter()
                .try_for_each(|section| section(out, snapshot))?;
            writeln!(out, "</div>")?;
        }
        write!(
            out,
            r#"</main>
<footer>
<nav aria-label="Other pages of the admin port">
<a href="/metrics">/metrics</a> for Prometheus ·
<a href="/status.json">/status.json</a> this page as data ·
<a href="/debug/decisions">/debug/decisions</a> how the last creates ended ·
<a href="/debug/held">/debug/held</a> the creates held now ·
<a href="/configz">/configz</a> the configuration ·
<a href="/readyz?verbose">/readyz</a> and
<a href="/livez?verbose">/livez</a> for probes
</nav>
</footer>
<script>{SCRIPT}</script>
</body>
</html>
"#
        )
    })
}

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out);
    out
}

#[cfg(test)]
mod tests;
