//! Types of reservation, as both files write them.

use scsi_pr::ReservationType;
use serde::{Deserialize, Serialize};

/// A type of reservation, as `write-exclusive-registrants-only`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct TypeText(#[serde(with = "TypeKind")] pub(super) ReservationType);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReservationType", rename_all = "kebab-case")]
enum TypeKind {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
}
