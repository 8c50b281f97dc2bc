//! `demo`: two nodes, one disk, and a failover, played through the real helper.
//!
//! The disk is a soft LUN in a temporary folder, the helper is started for the occasion, and each node is a
//! connection to it with a port of the disk open, as its virtual machine would have. Everything is
//! removed at the end, also if something goes wrong.

mod helper;
mod play;
mod script;
mod stage;

use std::path::{Path, PathBuf};

use crate::error::Error;

pub(crate) use helper::HelperError;
pub(crate) use play::{Played, Reply, Situation};
pub(crate) use script::Node;
pub(crate) use stage::StageError;

/// What was played.
#[derive(Debug)]
pub(crate) struct Demonstration {
    /// The helper's program.
    pub(crate) helper: PathBuf,
    /// The helper's process.
    pub(crate) process: u32,
    /// The soft LUN's folder, which is gone.
    pub(crate) lun: PathBuf,
    /// The steps, up to the first that was not answered as it should be.
    pub(crate) steps: Vec<Played>,
}

impl Demonstration {
    /// Whether every step was answered as the standard says.
    pub(crate) fn is_as_it_should_be(&self) -> bool {
        self.steps.len() == script::SCRIPT.len()
            && self.steps.iter().all(|step| step.faults.is_empty())
    }
}

/// Plays the whole of it with the helper at `chosen`, or with our own.
///
/// # Errors
///
/// That the stage cannot be set, or be cleared. What a device should not have answered is no error here.
pub(crate) fn demo(chosen: Option<&Path>) -> Result<Demonstration, Error> {
    let program = helper::find(chosen)?;
    let mut stage = stage::Stage::set(&program)?;
    let steps = play::play(&mut stage, &script::SCRIPT)?;
    let (process, lun) = (stage.process(), stage.lun().path().to_owned());
    stage.clear()?;
    Ok(Demonstration {
        helper: program,
        process,
        lun,
        steps,
    })
}
