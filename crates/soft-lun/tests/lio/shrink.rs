//! Makes a sequence that fails as short and as plain as it can be while it fails.

use anyhow::Result;

use crate::command::{Command, Out, Step};

/// The smallest sequence that was found. `fails` is asked whether a sequence still does.
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

/// Leaves out halves, quarters, and so on down to single steps.
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

/// Puts plainer commands in the place of odd ones.
fn simplify(steps: &mut [Step], fails: &mut impl FnMut(&[Step]) -> Result<bool>) -> Result<()> {
    for place in 0..steps.len() {
        for edit in EDITS {
            let odd = steps[place].command.clone();
            edit(&mut steps[place].command);
            if steps[place].command != odd && !fails(steps)? {
                steps[place].command = odd;
            }
        }
    }
    Ok(())
}

/// Each takes an oddity away, or does nothing. None undoes what another one has done.
const EDITS: [fn(&mut Command); 9] = [
    |command| {
        if let Command::In { length, .. } = command {
            *length = 255;
        }
    },
    |command| change(command, |out| out.length = None),
    |command| {
        change(command, |out| {
            out.rest = [0; 8];
            out.tail.clear();
        });
    },
    |command| change(command, |out| out.tail.clear()),
    |command| change(command, |out| out.rest = [0; 8]),
    |command| change(command, |out| out.rest[0..2].fill(0)),
    |command| change(command, |out| out.scope_type = 0),
    |command| change(command, |out| out.scope_type &= 0x0f),
    |command| change(command, |out| out.key = 0),
];

fn change(command: &mut Command, edit: impl FnOnce(&mut Out)) {
    if let Command::Out(out) = command {
        edit(out);
    }
}
