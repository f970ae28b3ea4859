//! The plot: bars with the makespan and the conflicts of every policy, for each set of conditions.
//! The SVG is written by hand, because it only has rectangles and text.

use std::fmt::Write as _;

use crate::figures::Figures;
use crate::report::{Report, Row};

const PANEL: u32 = 230;
const GAP: u32 = 24;
const BAR: u32 = 15;
const LABELS: u32 = 108;
const TITLE: u32 = 62;

/// The measure shown in a row of panels.
struct Measure {
    name: &'static str,
    of: fn(&Figures) -> f64,
    digits: usize,
}

const MEASURES: [Measure; 3] = [
    Measure {
        name: "seconds until all creates were over",
        of: |figures| figures.makespan,
        digits: 2,
    },
    Measure {
        name: "creates that failed",
        of: |figures| figures.failed as f64,
        digits: 0,
    },
    Measure {
        name: "conflicts that apiservers answered",
        of: |figures| figures.conflicts as f64,
        digits: 0,
    },
];

/// CSS classes for the colours, so that the page can switch between light and dark.
const STYLE: &str = "
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .name { font-weight: 600 } .quiet { fill: #59636e }
  .other { fill: #8c959f } .proxy { fill: #0969da } .best { fill: #1a7f37 }
  .range { stroke: #1f2328; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .quiet { fill: #9198a1 }
    .other { fill: #6e7681 } .proxy { fill: #4493f8 } .best { fill: #3fb950 }
    .range { stroke: #f0f6fc }
  }
";

/// One column of panels for each set of conditions, and one row for each measure. All bars of a row
/// have the same scale.
pub(crate) fn draw(report: &Report) -> String {
    let cells: Vec<_> = report.cells().collect();
    let bars = cells
        .iter()
        .map(|rows| rows.len() as u32)
        .max()
        .unwrap_or(0);
    let height = bars * BAR + GAP * 2;
    let (width, total) = (
        LABELS + cells.len() as u32 * (PANEL + GAP),
        TITLE + MEASURES.len() as u32 * height,
    );
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" role="img">"#
    );
    let _ = write!(
        svg,
        "\n<title>The race for a quota, by policy</title>\n<style>{STYLE}</style>\n"
    );
    for (column, rows) in cells.iter().enumerate() {
        let x = LABELS + column as u32 * (PANEL + GAP);
        for (line, words) in rows[0]
            .cell
            .to_string()
            .split(", ")
            .collect::<Vec<_>>()
            .chunks(2)
            .enumerate()
        {
            text(
                &mut svg,
                x,
                16 + line as u32 * 15,
                "quiet",
                &words.join(", "),
            );
        }
    }
    for (row, measure) in MEASURES.iter().enumerate() {
        let y = TITLE + row as u32 * height;
        text(&mut svg, 0, y + GAP - 8, "name", measure.name);
        let most = report
            .rows
            .iter()
            .map(|row| row.spread(measure.of)[2])
            .fold(0.0, f64::max);
        for (column, rows) in cells.iter().enumerate() {
            let x = LABELS + column as u32 * (PANEL + GAP);
            for (bar, each) in rows.iter().enumerate() {
                let y = y + GAP + bar as u32 * BAR;
                if column == 0 {
                    text(&mut svg, 0, y + 11, "quiet", &each.policy.to_string());
                }
                draw_bar(&mut svg, x, y, each, measure, most);
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_bar(svg: &mut String, x: u32, y: u32, row: &Row, measure: &Measure, most: f64) {
    let policy = row.policy.to_string();
    let class = match policy.as_str() {
        "oracle" => "best",
        name if name.starts_with("direct") => "other",
        _ => "proxy",
    };
    let [low, median, high] = row.spread(measure.of);
    // The value is to the right of its bar.
    let scaled = |value: f64| {
        if most > 0.0 {
            value / most * f64::from(PANEL - 44)
        } else {
            0.0
        }
    };
    let _ = writeln!(
        svg,
        r#"<rect class="{class}" x="{x}" y="{}" width="{:.1}" height="{}"/>"#,
        y + 2,
        scaled(median),
        BAR - 4
    );
    if high > low {
        let (from, to) = (f64::from(x) + scaled(low), f64::from(x) + scaled(high));
        let y = f64::from(y) + f64::from(BAR) / 2.0;
        let _ = writeln!(
            svg,
            r#"<line class="range" x1="{from:.1}" x2="{to:.1}" y1="{y}" y2="{y}"/>"#
        );
    }
    text(
        svg,
        x + scaled(high.max(median)) as u32 + 5,
        y + 11,
        "quiet",
        &format!("{median:.*}", measure.digits),
    );
}

fn text(svg: &mut String, x: u32, y: u32, class: &str, words: &str) {
    // All texts are constants, so nothing needs escaping.
    let _ = writeln!(
        svg,
        r#"<text class="{class}" x="{x}" y="{y}">{words}</text>"#
    );
}
