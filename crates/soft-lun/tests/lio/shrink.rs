// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reduction of a failing sequence to a minimal one.

use anyhow::Result;

use crate::command::{Command, Out, Step};

/// Returns the smallest failing sequence that was found. `fails` tests a sequence.
pub(crate) fn shrink(
    steps: &[Step],
    mut fails: impl FnMut(&[Step]) -> Result<bool>,
) -> Result<Vec<Step>> {
    let mut steps = steps.to_vec();
    loop {
        let before = steps.clone();
        shorten(&mut steps, &mut fails)?;
        simplify(&mut steps, &mut fails)?;
        if steps == before {
            return Ok(steps);
        }
    }
}

/// Removes halves, quarters, and so on down to single steps.
fn shorten(steps: &mut Vec<Step>, fails: &mut impl FnMut(&[Step]) -> Result<bool>) -> Result<()> {
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(start..steps.len().min(start + size));
            match fails(&fewer)? {
                true => *steps = fewer,
                false => start += size,
            }
        }
        size /= 2;
    }
    Ok(())
}

/// Simplifies the commands.
fn simplify(steps: &mut [Step], fails: &mut impl FnMut(&[Step]) -> Result<bool>) -> Result<()> {
    for index in 0..steps.len() {
        for edit in EDITS {
            let original = steps[index].command.clone();
            edit(&mut steps[index].command);
            if steps[index].command != original && !fails(steps)? {
                steps[index].command = original;
            }
        }
    }
    Ok(())
}

/// Simplifications of a command. No simplification reverts another one.
const EDITS: [fn(&mut Command); 9] = [
    |command| {
        if let Command::In { length, .. } = command {
            *length = 255;
        }
    },
    |command| edit_out(command, |out| out.length = None),
    |command| {
        edit_out(command, |out| {
            out.rest = [0; 8];
            out.tail.clear();
        });
    },
    |command| edit_out(command, |out| out.tail.clear()),
    |command| edit_out(command, |out| out.rest = [0; 8]),
    |command| edit_out(command, |out| out.rest[0..2].fill(0)),
    |command| edit_out(command, |out| out.scope_type = 0),
    |command| edit_out(command, |out| out.scope_type &= 0x0f),
    |command| edit_out(command, |out| out.key = 0),
];

fn edit_out(command: &mut Command, edit: impl FnOnce(&mut Out)) {
    if let Command::Out(out) = command {
        edit(out);
    }
}
