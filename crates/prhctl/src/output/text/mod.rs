// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text for terminals.

mod decode;
pub(crate) mod demo;
mod device;
mod lun;

use scsi_pr::ReservationType;

use crate::console::{PLAIN, table};

/// A result that has a text form.
pub(crate) trait ToText {
    fn to_text(&self) -> String;
}

/// Returns names and values in two columns.
fn name_value_table<const N: usize>(rows: [(&str, String); N]) -> String {
    let rows = rows.into_iter();
    table(
        &[],
        rows.map(|(name, value)| (PLAIN, vec![format!(" {name}"), value])),
    )
}

/// Returns a reservation and the name of its holder. Without a name, all registrants are holders.
fn held_by(reservation_type: ReservationType, holder: Option<&str>) -> String {
    format!(
        "{reservation_type}, held by {}",
        holder.unwrap_or("all registrants")
    )
}
