//! The sections of the page, one function each. Each writes one element with an id.

use std::fmt::{self, Write};
use std::time::Duration;

use super::chart::chart;
use super::elements::{bar, clock, close, close_table, open, table, tile};
use super::html::Text;
use crate::snapshot::words::{counted, duration, number};
use crate::snapshot::{CountsSummary, DecisionSummary, ServerSummary, Snapshot};
use crate::verdict::Outcome;

/// Namespaces and resources in their tables. `/status.json` has all of them.
const ROWS: usize = 15;

/// Whether the proxy is ready, its mode, failing checks, version and uptime.
pub(super) fn headline(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let (class, ready) = if snapshot.is_ready() {
        ("good", "Ready")
    } else {
        ("bad", "Not ready")
    };
    write!(
        out,
        r#"<div id="headline"><p><strong class="badge {class}">{ready}</strong> "#
    )?;
    write!(
        out,
        r#"<strong class="badge">{}</strong> {}</p>"#,
        Text(&snapshot.mode),
        Text(snapshot.mode_in_words())
    )?;
    for check in &snapshot.checks {
        if let Some(failure) = &check.failure {
            write!(
                out,
                r#"<p class="bad"><strong>{}</strong>: {}</p>"#,
                Text(&check.name),
                Text(failure)
            )?;
        }
    }
    let uptime = duration(Duration::from_secs(snapshot.uptime_seconds));
    let (time, clock) = (&snapshot.time, clock(&snapshot.time));
    write!(
        out,
        r#"<p class="muted">Version {version}, up {uptime}, as of <time datetime="{time}">{clock}</time> UTC</p></div>"#,
        version = Text(&snapshot.version),
        time = Text(time),
        clock = Text(clock),
    )
}

/// The most important numbers, and the chart.
pub(super) fn conflicts(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let conflicts = &snapshot.conflicts;
    open(out, "conflicts", "Quota conflicts")?;
    out.write_str("<dl class=\"tiles\">\n")?;
    tile(
        out,
        "main",
        "absorbed in the last minute",
        number(conflicts.last_minute()),
    )?;
    tile(
        out,
        "",
        "absorbed since the start",
        format!(
            "{} of {}",
            number(conflicts.absorbed),
            number(conflicts.met)
        ),
    )?;
    tile(
        out,
        "",
        "creates saved by a replay",
        number(snapshot.ended(Outcome::CreatedAfterReplay)),
    )?;
    let resolved = snapshot.ended(Outcome::Resolved);
    if resolved > 0 {
        tile(out, "", "creates found by a lookup", number(resolved))?;
    }
    let gave_up = snapshot.ended(Outcome::GaveUp);
    tile(
        out,
        if gave_up > 0 { "warn" } else { "" },
        "creates given up at a limit",
        number(gave_up),
    )?;
    tile(out, "", "creates held now", number(snapshot.held))?;
    for (what, certificate) in snapshot.certificates() {
        tile(
            out,
            if certificate.expires_soon() {
                "bad"
            } else {
                ""
            },
            what,
            Text(certificate.time_left()),
        )?;
    }
    out.write_str("</dl>\n")?;
    chart(out, conflicts)?;
    close(out)
}

/// The namespaces with the most conflicts.
pub(super) fn namespaces(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "namespaces", "Namespaces by conflicts")?;
    counts(out, "namespaces", "Namespace", &snapshot.namespaces)?;
    close(out)
}

/// The resources with the most conflicts.
pub(super) fn resources(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "resources", "Resources by conflicts")?;
    counts(out, "resources", "Resource", &snapshot.resources)?;
    close(out)
}

fn counts(out: &mut String, id: &str, title: &str, all: &[CountsSummary]) -> fmt::Result {
    if all.is_empty() {
        out.write_str("<p>No creates yet.</p>\n")?;
        return Ok(());
    }
    table(
        out,
        id,
        &[
            title,
            "#Conflicts",
            "",
            "#Created",
            "#After a replay",
            "#Gave up",
            "#Other outcomes",
        ],
    )?;
    let most = all.first().map_or(0, |first| first.conflicts);
    for counts in all.iter().take(ROWS) {
        let CountsSummary {
            conflicts,
            created,
            created_after_replay,
            gave_up,
            others,
            ..
        } = counts;
        write!(
            out,
            r#"<tr><th scope="row">{}</th><td class="number">{}</td><td>"#,
            Text(counts.title()),
            number(*conflicts)
        )?;
        bar(out, *conflicts, most)?;
        out.write_str("</td>")?;
        for count in [created, created_after_replay, gave_up, others] {
            write!(
                out,
                r#"<td class="number{}">{}</td>"#,
                if *count == 0 { " muted" } else { "" },
                number(*count)
            )?;
        }
        out.write_str("</tr>\n")?;
    }
    close_table(out)?;
    if let Some(more) = all.len().checked_sub(ROWS).filter(|more| *more > 0) {
        write!(
            out,
            r#"<p class="muted">And {} more, in <a href="/status.json">/status.json</a>.</p>"#,
            number(more as u64)
        )?;
    }
    Ok(())
}

/// How the creates of all namespaces ended.
pub(super) fn outcomes(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "outcomes", "How creates ended")?;
    let all: u64 = snapshot.outcomes.iter().map(|each| each.count).sum();
    if all == 0 {
        out.write_str("<p>No creates yet.</p>\n")?;
        return close(out);
    }
    table(out, "outcomes", &["Outcome", "#Creates", "#Share", ""])?;
    for ended in snapshot.outcomes.iter().filter(|ended| ended.count > 0) {
        write!(
            out,
            r#"<tr><th scope="row">{}</th><td class="number">{}</td><td class="number">{:.1} %</td><td>"#,
            Text(&ended.in_words),
            number(ended.count),
            ended.count as f64 * 100.0 / all as f64,
        )?;
        bar(out, ended.count, all)?;
        out.write_str("</td></tr>\n")?;
    }
    close_table(out)?;
    close(out)
}

/// The creates that are held now.
pub(super) fn held(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "held", "Held now")?;
    if snapshot.longest_held.is_empty() {
        out.write_str("<p>No creates wait for their next attempt.</p>\n")?;
        return close(out);
    }
    table(
        out,
        "held",
        &["Create", "#Attempts", "Last answer", "#Held for"],
    )?;
    for held in &snapshot.longest_held {
        write!(
            out,
            r#"<tr><th scope="row">{}</th><td class="number">{}</td><td>{}</td><td class="number">{}</td></tr>"#,
            Text(held.object()),
            number(held.attempts),
            Text(held.last_answer()),
            duration(Duration::from_millis(held.held_for_ms))
        )?;
    }
    close_table(out)?;
    let more = snapshot
        .held
        .saturating_sub(snapshot.longest_held.len() as u64);
    if more > 0 {
        write!(
            out,
            r#"<p class="muted">And {} more, in <a href="/debug/held">/debug/held</a>.</p>"#,
            number(more)
        )?;
    }
    close(out)
}

/// The apiservers, and the connections and streams of clients.
pub(super) fn servers(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "servers", "Upstream servers")?;
    table(
        out,
        "servers",
        &[
            "Address",
            "Health",
            "#Connections",
            "#In flight",
            "Pinned namespaces",
        ],
    )?;
    for server in &snapshot.servers {
        write!(
            out,
            r#"<tr><th scope="row">{}</th><td>"#,
            Text(&server.address)
        )?;
        health(out, server)?;
        let (connections, in_flight) = (number(server.connections), number(server.in_flight));
        write!(
            out,
            r#"</td><td class="number">{connections}</td><td class="number">{in_flight}</td><td>"#
        )?;
        pins(out, server)?;
        out.write_str("</td></tr>\n")?;
    }
    close_table(out)?;
    write!(
        out,
        r#"<p class="muted">Clients have {} and {}.</p>"#,
        counted(snapshot.downstream_connections, "client connection"),
        counted(snapshot.streams, "open stream"),
    )?;
    close(out)
}

/// Every limit, its setting, and how often it was reached.
pub(super) fn limits(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "limits", "Budget and limits")?;
    table(
        out,
        "limits",
        &["Limit", "Set to", "In use", "#Times reached"],
    )?;
    for limit in &snapshot.limits {
        write!(out, r#"<tr><th scope="row">{}"#, Text(&limit.what))?;
        if !limit.field.is_empty() {
            write!(out, " <code>{}</code>", Text(&limit.field))?;
        }
        let (set, now, reached) = (Text(&limit.set), Text(&limit.now), number(limit.reached));
        let class = if limit.reached > 0 { "warn" } else { "muted" };
        write!(
            out,
            r#"</th><td>{set}</td><td>{now}</td><td class="number {class}">{reached}</td></tr>"#
        )?;
    }
    close_table(out)?;
    close(out)
}

/// The last creates, except those that succeeded at the first attempt.
pub(super) fn decisions(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    open(out, "decisions", "Last decisions")?;
    write!(
        out,
        r#"<p class="muted">The last {}, newest first. {} at the first attempt; these are only in <a href="/debug/decisions">/debug/decisions</a>.</p>"#,
        counted(snapshot.decided, "create"),
        if snapshot.plain == 1 {
            "1 succeeded".to_owned()
        } else {
            format!("{} succeeded", number(snapshot.plain))
        },
    )?;
    if !snapshot.decisions.is_empty() {
        table(
            out,
            "decisions",
            &["Arrived (UTC)", "Create", "What happened"],
        )?;
        for decision in &snapshot.decisions {
            self::decision(out, decision)?;
        }
        close_table(out)?;
    }
    close(out)
}

fn decision(out: &mut String, decision: &DecisionSummary) -> fmt::Result {
    let class = match decision.outcome.as_str() {
        "created_after_replay" => "good",
        "gave_up" | "no_answer" => "bad",
        _ => "",
    };
    write!(
        out,
        r#"<tr><td><time datetime="{}">{}</time></td><th scope="row">{}</th><td><span class="badge {class}">{}</span> {}"#,
        Text(&decision.time),
        Text(clock(&decision.time)),
        Text(decision.object()),
        Text(decision.outcome_in_words()),
        Text(decision.story()),
    )?;
    // For a success, the outcome already says why.
    if !decision.succeeded() {
        write!(
            out,
            r#" <span class="muted">{}</span>"#,
            Text(&decision.why)
        )?;
    }
    out.write_str("</td></tr>\n")
}

fn health(out: &mut String, server: &ServerSummary) -> fmt::Result {
    let (class, word) = if server.healthy {
        ("good", "up")
    } else {
        ("bad", "down")
    };
    write!(out, r#"<span class="badge {class}">{word}</span>"#)?;
    if let Some(seconds) = server.for_seconds {
        write!(out, " for {}", duration(Duration::from_secs(seconds)))?;
    }
    match &server.last_error {
        Some(error) if server.healthy => write!(
            out,
            r#" <span class="muted">last error: {}</span>"#,
            Text(error)
        ),
        Some(error) => write!(out, " {}", Text(error)),
        None => Ok(()),
    }
}

fn pins(out: &mut String, server: &ServerSummary) -> fmt::Result {
    if server.namespaces.is_empty() {
        return out.write_str(r#"<span class="muted">none</span>"#);
    }
    write!(out, "{}", Text(server.namespaces.join(", ")))?;
    match server.pinned.saturating_sub(server.namespaces.len() as u64) {
        0 => Ok(()),
        more => write!(out, " and {} more", number(more)),
    }
}
