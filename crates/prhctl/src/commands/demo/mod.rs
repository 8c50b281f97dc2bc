//! `demo`: two nodes, one disk, and a failover, played through the real helper.
//!
//! The disk is a soft LUN in a temporary folder, the helper is started for the occasion, and each node is a
//! connection to it with a port of the disk open, as its virtual machine would have. Everything is
//! removed at the end, also if something goes wrong or a signal ends it.

mod helper;
mod play;
mod remains;
mod script;
mod stage;

use std::path::{Path, PathBuf};

use crate::error::Error;

pub(crate) use helper::HelperError;
pub(crate) use play::{Played, Reply, Scene, names};
pub(crate) use script::Node;
pub(crate) use stage::StageError;

/// Who plays, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    /// The helper's program.
    pub(crate) helper: PathBuf,
    /// The helper's process.
    pub(crate) process: u32,
    /// The soft LUN's folder, which goes at the end.
    pub(crate) lun: PathBuf,
}

/// What was played.
#[derive(Debug)]
pub(crate) struct Demonstration {
    /// Who has played.
    pub(crate) cast: Cast,
    /// The steps, up to the first that was not answered as it should be.
    pub(crate) steps: Vec<Played>,
    /// What has broken it off, or was left of it.
    pub(crate) trouble: Option<Error>,
}

impl Demonstration {
    /// Whether every step was answered as the standard says, and nothing is left.
    pub(crate) fn is_as_it_should_be(&self) -> bool {
        self.trouble.is_none()
            && self.steps.len() == script::SCRIPT.len()
            && self.steps.iter().all(|step| step.faults.is_empty())
    }
}

/// Something to be shown at once.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// It begins.
    Begun(&'a Cast),
    /// A step was played, the first, the second, …
    Played(usize, &'a Played),
}

/// Plays the whole of it with the helper at `chosen`, or with our own, and has each part shown as soon as
/// it is there.
///
/// # Errors
///
/// That the stage cannot be set. What a device should not have answered is no error here.
pub(crate) fn demo(
    chosen: Option<&Path>,
    show: impl Fn(Event<'_>),
) -> Result<Demonstration, Error> {
    // Before there is anything that would be left.
    let remains = remains::Remains::watched().map_err(StageError::Signals)?;
    let program = helper::find(chosen, remains.mask())?;
    let mut stage = stage::Stage::set(&program, &remains)?;
    let cast = Cast {
        helper: program,
        process: stage.process(),
        lun: stage.lun().path().to_owned(),
    };
    show(Event::Begun(&cast));
    let mut steps: Vec<Played> = Vec::new();
    let played = play::play(&mut stage, &script::SCRIPT, |step| {
        show(Event::Played(steps.len() + 1, &step));
        steps.push(step);
    });
    let trouble = played.and_then(|()| stage.clear()).err();
    Ok(Demonstration {
        cast,
        steps,
        trouble: trouble.map(Error::Stage),
    })
}
