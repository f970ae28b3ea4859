//! The elements that the sections share. Titles and classes are constants of the page: any
//! other text goes through [`super::html::Text`].

use std::fmt::{self, Display, Write};

pub(super) fn open(out: &mut String, id: &str, title: &str) -> fmt::Result {
    writeln!(
        out,
        r#"<section id="{id}"><h2 id="{id}-title">{title}</h2>"#
    )
}

pub(super) fn close(out: &mut String) -> fmt::Result {
    out.write_str("</section>\n")
}

/// The start of a table. A title that begins with `#` is that of a column of numbers. A column
/// without a title draws the number in the next cell as a bar, and has no heading for screen
/// readers.
pub(super) fn table(out: &mut String, section: &str, titles: &[&str]) -> fmt::Result {
    writeln!(
        out,
        r#"<div class="scroll" tabindex="0" role="group" aria-labelledby="{section}-title"><table><thead><tr>"#
    )?;
    for title in titles {
        match title.strip_prefix('#') {
            _ if title.is_empty() => out.write_str("<td></td>")?,
            Some(title) => write!(out, r#"<th scope="col" class="number">{title}</th>"#)?,
            None => write!(out, r#"<th scope="col">{title}</th>"#)?,
        }
    }
    out.write_str("</tr></thead><tbody>\n")
}

pub(super) fn close_table(out: &mut String) -> fmt::Result {
    out.write_str("</tbody></table></div>\n")
}

pub(super) fn tile(out: &mut String, class: &str, title: &str, value: impl Display) -> fmt::Result {
    writeln!(
        out,
        r#"<div class="tile {class}"><dt>{title}</dt><dd>{value}</dd></div>"#
    )
}

/// A bar whose full length is `most`. Screen readers skip it, because the number is in another
/// cell.
pub(super) fn bar(out: &mut String, value: u64, most: u64) -> fmt::Result {
    let length = if most == 0 {
        0.0
    } else {
        value as f64 * 100.0 / most as f64
    };
    write!(
        out,
        r#"<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect width="{length:.1}" height="1"/></svg>"#
    )
}

/// The time of day of an RFC 3339 time.
pub(super) fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}
