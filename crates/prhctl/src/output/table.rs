//! Columns of text, without lines around them.

use anstyle::Style;
use comfy_table::{ContentArrangement, Table, presets};

use super::escape_control;

/// Returns lines of cells in columns, the first in `heading` and the others each in its own style.
///
/// Control characters in cells are escaped: a cell may be the text of an error or a name of an initiator.
pub(super) fn table(
    header: &[&str],
    rows: impl IntoIterator<Item = (Style, Vec<String>)>,
) -> String {
    let heading = Style::new().bold();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut styles = Vec::new();
    if !header.is_empty() {
        table.set_header(header.to_vec());
        styles.push(heading);
    }
    for (style, cells) in rows {
        styles.push(style);
        table.add_row(cells.iter().map(|cell| escape_control(cell)));
    }
    // Styled as a whole: no cell has more than one line, and escapes must not count as columns.
    let lines = table.lines().zip(styles);
    lines.fold(String::new(), |text, (line, style)| {
        text + &format!("{style}{}{style:#}\n", line.trim_end())
    })
}
