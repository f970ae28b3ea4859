//! The chart of conflicts absorbed per minute, as inline SVG with a text that says the same.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::snapshot::ConflictSummary;
use crate::snapshot::words::{duration, number};

/// The chart is at least this many points wide (five minutes), so that the first points do not fill
/// all of it.
const MIN_POINTS: usize = 60;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 96.0;

pub(super) fn chart(out: &mut String, conflicts: &ConflictSummary) -> fmt::Result {
    let points = &conflicts.absorbed_per_minute;
    let across = points.len().max(MIN_POINTS);
    let ago = duration(Duration::from_secs(
        conflicts.step_seconds.saturating_mul(across as u64),
    ));
    let (peak, now) = (number(conflicts.peak()), number(conflicts.last_minute()));
    write!(
        out,
        r#"<figure>
<figcaption>Absorbed per minute, the last {ago}: highest {peak}, now {now}</figcaption>
<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Line of conflicts absorbed per minute over the last {ago}. Highest {peak}, now {now}.">
<path class="area" d="{area}"/><path class="line" d="{line}"/>
</svg>
<div class="axis" aria-hidden="true"><span>{ago} ago</span><span>now</span></div>
</figure>
"#,
        area = path(points, across, true),
        line = path(points, across, false),
    )
}

/// The SVG path through the points. As an area, it is closed along the bottom.
fn path(points: &[u64], across: usize, area: bool) -> String {
    let peak = points.iter().copied().max().unwrap_or_default().max(1) as f64;
    let x = |index: usize| WIDTH - (points.len() - 1 - index) as f64 * WIDTH / (across - 1) as f64;
    // The margin keeps a line of two pixels visible at the top and at the bottom.
    let y = |value: u64| HEIGHT - 1.0 - value as f64 / peak * (HEIGHT - 2.0);
    let mut path = String::new();
    for (index, value) in points.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            path,
            "{}{:.1} {:.1}",
            if index == 0 { "M" } else { "L" },
            x(index),
            y(*value)
        );
    }
    if area && !points.is_empty() {
        let _ = write!(path, "V{HEIGHT}H{:.1}Z", x(0));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_ends_at_now_and_its_peak_touches_the_top() {
        let mut points = vec![0; MIN_POINTS];
        points[MIN_POINTS - 2] = 50;
        points[MIN_POINTS - 1] = 25;
        let line = path(&points, MIN_POINTS, false);
        assert!(
            line.starts_with("M0.0 95.0L") && line.ends_with("L589.8 1.0L600.0 48.0"),
            "{line}"
        );
        assert!(path(&points, MIN_POINTS, true).ends_with("L600.0 48.0V96H0.0Z"));
    }

    #[test]
    fn few_points_are_drawn_at_the_right() {
        assert_eq!(path(&[0, 7], MIN_POINTS, false), "M589.8 95.0L600.0 1.0");
        assert_eq!(path(&[], MIN_POINTS, true), "");
    }

    #[test]
    fn the_text_says_what_the_line_shows() {
        let conflicts = ConflictSummary {
            met: 9,
            absorbed: 9,
            absorbed_per_minute: vec![0, 1200, 3],
            step_seconds: 5,
        };
        let mut out = String::new();
        chart(&mut out, &conflicts).unwrap();
        assert!(
            out.contains("over the last 5 min. Highest 1,200, now 3."),
            "{out}"
        );
    }
}
