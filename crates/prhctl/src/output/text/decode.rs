// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text of `prhctl decode`.

use super::ToText;
use crate::commands::decode::{Explanation, kind_name};
use crate::console::{BOLD, INVALID, PLAIN, escape_control, table};

/// Number of characters of a value that are printed. JSON has all of them.
const MAX_VALUE_LEN: usize = 60;

impl ToText for Explanation {
    fn to_text(&self) -> String {
        let head = match &self.summary {
            Ok(summary) => format!("{BOLD}{}{BOLD:#}\n", escape_control(summary)),
            Err(problem) => format!(
                "{INVALID}invalid {}:{INVALID:#} {}\n",
                kind_name(self.kind),
                escape_control(problem)
            ),
        };
        if self.fields.is_empty() {
            return head;
        }
        let rows = self.fields.iter().map(|field| {
            let cells = [&field.position, field.name, &field.value, &field.meaning];
            (PLAIN, cells.map(shorten_hex).to_vec())
        });
        head + &table(&["POSITION", "FIELD", "VALUE", "MEANING"], rows)
    }
}

fn shorten_hex(cell: &str) -> String {
    match cell.char_indices().nth(MAX_VALUE_LEN) {
        Some((end, _)) if cell.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("{}…", cell.get(..end).unwrap_or_default())
        }
        _ => cell.to_owned(),
    }
}
