//! A reservation and the name of its holder.

use scsi_pr::ReservationType;
use serde::Serialize;

use crate::labels;

/// For people.
pub(super) fn text(reservation: Option<(ReservationType, Option<&str>)>, none: &str) -> String {
    match reservation {
        None => none.to_owned(),
        Some((kind, Some(holder))) => format!("{kind}, held by {holder}"),
        Some((kind, None)) => format!("{kind}, held by all registrants"),
    }
}

/// For programs.
#[derive(Serialize)]
pub(super) struct HeldJson {
    r#type: &'static str,
    /// `null` where all registrants hold it.
    holder: Option<String>,
}

impl HeldJson {
    pub(super) fn of((kind, holder): (ReservationType, Option<&str>)) -> Self {
        HeldJson {
            r#type: labels::of_type(kind).1,
            holder: holder.map(str::to_owned),
        }
    }
}
