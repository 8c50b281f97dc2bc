// SPDX-License-Identifier: MIT OR Apache-2.0

//! Invariants of every state of a soft LUN.

use soft_lun::LogicalUnit;

/// Panics if no command can lead to the unit's state (SPC-4, 5.12).
pub fn check(unit: &LogicalUnit) {
    let registrations = unit.registrations();
    for (index, registration) in registrations.iter().enumerate() {
        assert!(!registration.key.is_zero());
        assert!(unit.nexuses().any(|(id, _)| id == registration.nexus));
        let mut others = registrations.iter().skip(index + 1);
        assert!(others.all(|other| other.nexus != registration.nexus));
    }
    let holders: Vec<_> = unit
        .nexuses()
        .map(|(id, _)| id)
        .filter(|id| unit.is_holder(*id))
        .collect();
    assert!(holders.iter().all(|id| unit.key(*id).is_some()));
    match unit.reservation() {
        None => assert!(holders.is_empty()),
        Some(held) if held.kind().is_all_registrants() => {
            assert_eq!(held.holder(), None);
            assert!(!holders.is_empty() && holders.len() == registrations.len());
        }
        Some(held) => assert!(holders.len() == 1 && held.holder() == Some(holders[0])),
    }
    for (id, _) in unit.nexuses() {
        let attentions = unit.unit_attentions(id);
        for (index, attention) in attentions.iter().enumerate() {
            assert!(!attentions[index + 1..].contains(attention));
        }
        // Write access implies read access, and a holder has both.
        assert!(unit.can_read(id) || !unit.can_write(id));
        assert!(unit.can_write(id) || !unit.is_holder(id));
    }
}
