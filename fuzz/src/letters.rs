//! Well-formed commands to a soft LUN with four nexuses, which are too many to visit all its states; each
//! judged by the tables of `soft-lun`'s exhaustive test.

use std::sync::OnceLock;

use soft_lun::LogicalUnit;

use crate::exhaustive::commands::{TestCommand, all_commands};
use crate::exhaustive::state::{self, StateView};
use crate::exhaustive::transition;

/// A letter has two bytes. More than this many lead nowhere else.
const MOST: usize = 64;

fn clean() -> &'static (LogicalUnit, Vec<TestCommand>) {
    static CLEAN: OnceLock<(LogicalUnit, Vec<TestCommand>)> = OnceLock::new();
    CLEAN.get_or_init(|| {
        let unit = state::new_unit(4);
        let letters = all_commands(&unit, true);
        (unit, letters)
    })
}

/// Letters, by their places in the alphabet.
pub fn run(bytes: &[u8]) {
    let (unit, letters) = clean();
    let mut unit = unit.clone();
    let (places, _) = bytes.as_chunks::<2>();
    for place in places.iter().take(MOST) {
        let letter = &letters[usize::from(u16::from_be_bytes(*place)) % letters.len()];
        let before = StateView::of(&unit);
        let original = unit.clone();
        transition::check(&original, &before, letter, &mut unit);
    }
    state::check(&unit, &StateView::of(&unit));
}
