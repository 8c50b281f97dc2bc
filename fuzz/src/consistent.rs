//! What must be true of a soft LUN in any state.

use soft_lun::LogicalUnit;

/// Panics if a unit is in a state that no command leads to (SPC-4, 5.12).
pub(crate) fn check(unit: &LogicalUnit) {
    let registrations = unit.registrations();
    for (place, one) in registrations.iter().enumerate() {
        assert!(!one.key.is_zero());
        assert!(unit.nexuses().any(|(id, _)| id == one.nexus));
        let mut others = registrations.iter().skip(place + 1);
        assert!(others.all(|other| other.nexus != one.nexus));
    }
    let holders: Vec<_> = unit
        .nexuses()
        .map(|(id, _)| id)
        .filter(|id| unit.is_holder(*id))
        .collect();
    assert!(holders.iter().all(|id| unit.key_of(*id).is_some()));
    match unit.reservation() {
        None => assert!(holders.is_empty()),
        Some(held) if held.kind().is_all_registrants() => {
            assert_eq!(held.holder(), None);
            assert!(!holders.is_empty() && holders.len() == registrations.len());
        }
        Some(held) => assert!(holders.len() == 1 && held.holder() == Some(holders[0])),
    }
    for (id, _) in unit.nexuses() {
        let waiting = unit.unit_attentions(id);
        for (place, one) in waiting.iter().enumerate() {
            assert!(!waiting[place + 1..].contains(one));
        }
        // Who may write may read, and a holder may do both.
        assert!(unit.can_read(id) || !unit.can_write(id));
        assert!(unit.can_write(id) || !unit.is_holder(id));
    }
}
