//! Logical units in software: for trying, teaching and testing without hardware.

use std::os::fd::BorrowedFd;
use std::path::Path;

use pr_socket::{Direction, Request};
use scsi_pr::{AdditionalSense, SenseKey};
use soft_lun::Answer;
use soft_lun::store::{Folder, StoreError};

use crate::chain;
use crate::client::Client;
use crate::logging::Seldom;
use crate::outcome::Outcome;

/// The soft LUNs of one folder.
#[derive(Debug)]
pub struct SoftLuns {
    folder: Folder,
    unusable: Seldom,
}

impl SoftLuns {
    /// Those in `folder`.
    ///
    /// # Errors
    ///
    /// That there is no such folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            folder: Folder::open(folder)?,
            unusable: Seldom::new(),
        })
    }

    /// Executes a request if `descriptor` is a port of a soft LUN; `None` if it is something else.
    #[must_use]
    pub fn execute(
        &self,
        client: &Client,
        descriptor: BorrowedFd<'_>,
        request: &Request,
        data: &mut [u8],
    ) -> Option<Outcome> {
        let answer = self.folder.port(descriptor).and_then(|port| {
            port.map(|open| {
                let cdb = request.command.cdb();
                open.lun.execute(&open.port, cdb, &request.parameters)
            })
            .transpose()
        });
        match answer {
            Ok(answer) => Some(outcome(&answer?, request.command.direction(), data)),
            Err(error) => Some(self.unusable(client, &error)),
        }
    }

    /// What is wrong with its files is to a guest what a broken array is.
    fn unusable(&self, client: &Client, error: &StoreError) -> Outcome {
        if self.unusable.is_due() {
            log::warn!(
                "{client}: soft LUN cannot be used, command answered with HARDWARE ERROR: {}",
                chain(error)
            );
        }
        Outcome::check_condition(
            SenseKey::HardwareError,
            AdditionalSense::INTERNAL_TARGET_FAILURE,
        )
    }
}

/// Puts the data of an answer into `data`, which has room for what the command allows.
fn outcome(answer: &Answer, direction: Direction, data: &mut [u8]) -> Outcome {
    let mut outcome = match &answer.sense {
        Some(sense) => Outcome::with_sense(answer.status, sense),
        None => Outcome::status(answer.status),
    };
    if direction == Direction::In {
        let room = data.iter_mut().zip(&answer.data);
        outcome.length = room.map(|(to, from)| *to = *from).count();
    }
    outcome
}
