//! Loss of power.

use crate::unit::LogicalUnit;

impl LogicalUnit {
    /// Loses power and comes back (SPC-4, 5.12, preserving persistent reservations).
    ///
    /// Registrations and reservation are kept if the last registration said so (`APTPL`), and gone
    /// otherwise. The generation begins at zero in either case (SPC-4, 6.15.2). Unit attentions that
    /// waited are forgotten, and each nexus is told of the loss.
    pub fn lose_power(&mut self) {
        self.state_mut().lose_power();
    }
}
