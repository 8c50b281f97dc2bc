// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text for terminals.

use scsi_pr::{ReservationType, ScopeType};

use crate::console::{BOLD, INVALID, PLAIN, escape_path, table};
use crate::helper::DeviceResult;
use crate::labels;

/// A result that has a text form.
pub(crate) trait ToText {
    fn to_text(&self) -> String;
}

impl<T: ToText> ToText for DeviceResult<T> {
    fn to_text(&self) -> String {
        let device = escape_path(&self.device);
        format!("{BOLD}{device}{BOLD:#}: {}", self.value.to_text())
    }
}

/// Returns names and values in two columns.
pub(crate) fn name_value_table<const N: usize>(rows: [(&str, String); N]) -> String {
    let rows = rows.into_iter();
    table(
        &[],
        rows.map(|(name, value)| (PLAIN, vec![format!(" {name}"), value])),
    )
}

/// Returns a reservation and the name of its holder. Without a name, all registrants are holders.
pub(crate) fn held_by(reservation_type: ReservationType, holder: Option<&str>) -> String {
    format!(
        "{reservation_type}, held by {}",
        holder.unwrap_or("all registrants")
    )
}

/// Returns a number with its noun.
pub(crate) fn count(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Returns a line about bytes that are missing at the end of a list; empty if none are.
pub(crate) fn truncation(missing: usize) -> String {
    match missing {
        0 => String::new(),
        missing => format!(
            "{INVALID}Incomplete:{INVALID:#} the last {missing} bytes of the list are missing, \
             because a response is limited to 8192 bytes or the device truncated it.\n"
        ),
    }
}

/// Returns whether all registrants hold a reservation of this type.
pub(crate) fn is_all_registrants(scope_type: ScopeType) -> bool {
    let reservation_type = scope_type.reservation_type();
    reservation_type.is_some_and(ReservationType::is_all_registrants)
}

/// Returns the standard's name and the short name of a type.
pub(crate) fn type_name(scope_type: ScopeType) -> String {
    match scope_type.reservation_type() {
        Some(reservation_type) => {
            let short = labels::short_type(reservation_type);
            format!("{reservation_type} ({short})")
        }
        None => format!("{:x}h (obsolete or reserved)", scope_type.type_code()),
    }
}

/// Returns the name of a scope, or its number.
pub(crate) fn scope(scope_type: ScopeType) -> String {
    match scope_type.scope() {
        Some(scope) => scope.to_string(),
        None => format!("{:x}h (reserved)", scope_type.scope_code()),
    }
}
