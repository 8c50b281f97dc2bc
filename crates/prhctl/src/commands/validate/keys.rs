// SPDX-License-Identifier: MIT OR Apache-2.0

//! The keys of a run. Their first half is the same in all runs, so that a later run recognizes and
//! removes those of one that was killed.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use scsi_pr::ReservationKey;

/// First half of each key, "prhv" in ASCII.
const PREFIX: u32 = 0x7072_6876;

/// A node of the cluster: one of the devices on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) usize);

/// The first device.
pub(super) const A: NodeId = NodeId(0);
/// The second device.
pub(super) const B: NodeId = NodeId(1);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "A",
            _ => "B",
        })
    }
}

/// The random number of a run, which is the third quarter of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunNumber(u16);

impl RunNumber {
    pub(super) fn random() -> Self {
        // A hasher has random keys.
        let [first, second, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
        RunNumber(u16::from_be_bytes([first, second]))
    }

    /// Returns a key of a node. `index` distinguishes the keys that one node registers.
    pub(super) fn key(self, node: NodeId, index: u8) -> ReservationKey {
        let [prefix @ .., _, _, _, _] = (u64::from(PREFIX) << 32).to_be_bytes();
        let [p0, p1, p2, p3] = prefix;
        let [r0, r1] = self.0.to_be_bytes();
        let node = u8::try_from(node.0).unwrap_or(u8::MAX).saturating_add(1);
        u64::from_be_bytes([p0, p1, p2, p3, r0, r1, index, node]).into()
    }
}

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX:#x}{:04x}", self.0)
    }
}

/// Returns whether a key is that of any run.
pub(super) fn is_of_a_run(key: ReservationKey) -> bool {
    key.get() >> 32 == u64::from(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_contains_prefix_run_index_and_node() {
        let key = RunNumber(0x1f3a).key(B, 7);
        assert_eq!(key, ReservationKey::new(0x7072_6876_1f3a_0702));
        assert!(is_of_a_run(key));
        assert!(!is_of_a_run(ReservationKey::new(0x7072_6877_1f3a_0702)));
        assert_eq!(RunNumber(0x1f3a).to_string(), "0x707268761f3a");
    }
}
