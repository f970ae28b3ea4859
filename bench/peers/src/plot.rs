//! Draws a table as bars in groups, one group for each column.

use std::fmt::Write as _;

use crate::report::{Table, is_ours};

const BAR: f64 = 11.0;
const GAP: f64 = 26.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
/// For contestants other than ours, which is drawn in `OURS`.
const COLOURS: [&str; 7] = [
    "#8da0b6", "#b7c4d3", "#7fb0a2", "#b5d3ca", "#c9b27c", "#b693b8", "#d0d0d0",
];
const OURS: [&str; 4] = ["#d9480f", "#f08c00", "#fab005", "#ffd43b"];

pub(crate) fn svg(table: &Table) -> String {
    let drawn: Vec<usize> = (0..table.contestants().len())
        .filter(|at| table.contestants()[*at] != "direct")
        .collect();
    let columns = table.columns();
    let group = BAR * drawn.len() as f64;
    let width = LEFT + (group + GAP) * columns.len() as f64 + 20.0;
    let legend = TOP + HEIGHT + 50.0;
    let height = legend + 18.0 * drawn.len() as f64 + 10.0;
    let medians = drawn.iter().flat_map(|contestant| {
        (0..columns.len()).filter_map(|column| table.median(*contestant, column))
    });
    let most = medians.fold(f64::MIN_POSITIVE, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{} ({})</text>\n",
        table.title, table.unit
    );
    for fifth in 0..=5 {
        let figure = most * f64::from(fifth) / 5.0;
        let y = TOP + HEIGHT - HEIGHT * f64::from(fifth) / 5.0;
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{width:.0}\" stroke=\"#ddd\"/><text x=\"4\" y=\"{:.1}\">{figure:.2}</text>",
            y + 4.0
        );
    }
    for (column, name) in columns.iter().enumerate() {
        let x = LEFT + (group + GAP) * column as f64 + GAP / 2.0;
        for (position, contestant) in drawn.iter().enumerate() {
            let Some(median) = table.median(*contestant, column) else {
                continue;
            };
            let tall = HEIGHT * median / most;
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{tall:.1}\" fill=\"{}\"><title>{}: {median:.3}</title></rect>",
                x + BAR * position as f64,
                TOP + HEIGHT - tall,
                BAR - 1.5,
                colour(table, &drawn, position),
                table.contestants()[*contestant],
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            x + group / 2.0,
            TOP + HEIGHT + 16.0
        );
    }
    for (position, contestant) in drawn.iter().enumerate() {
        let y = legend + 18.0 * position as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{:.1}\">{}</text>",
            y - 10.0,
            colour(table, &drawn, position),
            LEFT + 18.0,
            y,
            table.contestants()[*contestant],
        );
    }
    out + "</svg>\n"
}

fn colour(table: &Table, drawn: &[usize], position: usize) -> &'static str {
    let ours = is_ours(&table.contestants()[drawn[position]]);
    let before = drawn[..position]
        .iter()
        .filter(|at| is_ours(&table.contestants()[**at]) == ours);
    let before = before.count();
    if ours {
        OURS[before % OURS.len()]
    } else {
        COLOURS[before % COLOURS.len()]
    }
}
