//! Text for terminals.

pub(super) mod demo;
pub(super) mod device;
pub(super) mod lun;
