//! From a command line to what becomes of it.

pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod keys;
pub(crate) mod lun;
pub(crate) mod preempt;
pub(crate) mod register;
pub(crate) mod release;
pub(crate) mod status;

use std::path::Path;

use pr_helper_protocol::Direction;
use scsi_pr::InServiceAction;

use crate::cli::lun::Lun;
use crate::cli::{self, Command};
use crate::device::Device;
use crate::error::{Error, Failure};
use crate::helper::Helper;
use crate::output::Output;
use demo::Event;
use release::{Answer, Change, OnDevice, Outcome};

/// Does `command`, by the helper at `socket` if it is about a device. Notes go to `output` at once.
///
/// # Errors
///
/// Why it was not done.
pub(crate) fn execute(
    command: &Command,
    socket: &Path,
    output: &Output,
) -> Result<Outcome, Box<Failure>> {
    let on = On { socket, output };
    match command {
        Command::Keys(device) => on.ask(device, InServiceAction::ReadKeys),
        Command::Reservation(device) => on.ask(device, InServiceAction::ReadReservation),
        Command::Capabilities(device) => on.ask(device, InServiceAction::ReportCapabilities),
        Command::Status(device) => on.ask(device, InServiceAction::ReadFullStatus),
        Command::Register(given) => {
            on.change(&given.device, |helper| register::register(helper, given))
        }
        Command::Unregister(given) => on.change(&given.device, |helper| {
            register::unregister(helper, given.key)
        }),
        Command::Reserve(given) => on.change(&given.sender.device, |helper| {
            register::reserve(helper, given.sender.key, given.reservation_type)
        }),
        Command::Release(given) => on.change(&given.sender.device, |helper| {
            register::release(helper, given.sender.key, given.reservation_type)
        }),
        Command::Clear(given) => {
            on.change(&given.device, |helper| register::clear(helper, given.key))
        }
        Command::Preempt(given) => on.change(&given.sender.device, |helper| {
            register::preempt(helper, given)
        }),
        Command::Move(given) => on.change(&given.sender.device, |helper| {
            register::register_and_move(helper, given)
        }),
        Command::Decode(given) => Ok(Outcome::Explained(decode::decode(given)?)),
        Command::Lun(Lun::Create(given)) => Ok(Outcome::Lun(lun::create(given)?)),
        Command::Lun(Lun::List(given)) => {
            if lun::is_one(&given.folder) {
                let path = given.folder.display();
                output.note(&format!(
                    "{path} is itself a soft LUN: 'prhctl lun show' shows it"
                ));
            }
            Ok(Outcome::Luns(lun::list(&given.folder)?))
        }
        Command::Lun(Lun::Show(given)) => Ok(Outcome::Lun(lun::show(&given.path)?)),
        Command::Demo(given) => {
            let show = |event: Event<'_>| output.event(&event);
            Ok(Outcome::Played(demo::demo(given.helper.as_deref(), show)?))
        }
    }
}

/// Where commands about devices go.
#[derive(Clone, Copy)]
struct On<'a> {
    socket: &'a Path,
    output: &'a Output,
}

impl On<'_> {
    /// # Errors
    ///
    /// Why there is no answer.
    fn ask(self, device: &cli::Device, action: InServiceAction) -> Result<Outcome, Box<Failure>> {
        self.with(device, Direction::In, |helper| {
            status::report(helper, action)
        })
    }

    /// # Errors
    ///
    /// Why it was not done.
    fn change(
        self,
        device: &cli::Device,
        change: impl FnOnce(&mut Helper<'_>) -> Result<Change, Error>,
    ) -> Result<Outcome, Box<Failure>> {
        self.with(device, Direction::Out, |helper| {
            change(helper).map(Answer::Changed)
        })
    }

    /// # Errors
    ///
    /// Those of `answer`, and that device or helper cannot be reached.
    fn with(
        self,
        device: &cli::Device,
        direction: Direction,
        answer: impl FnOnce(&mut Helper<'_>) -> Result<Answer, Error>,
    ) -> Result<Outcome, Box<Failure>> {
        let path = device.path.clone();
        let failure = |attentions| {
            let device = Some(path.clone());
            move |error| {
                Box::new(Failure {
                    error,
                    device,
                    attentions,
                })
            }
        };
        let opened = Device::open(&path, direction).map_err(failure(Vec::new()))?;
        let helper = Helper::connect(self.socket, opened, direction, self.output);
        let mut helper = helper.map_err(failure(Vec::new()))?;
        let result = answer(&mut helper);
        let attentions = helper.into_attentions();
        match result {
            Ok(result) => Ok(Outcome::Device(OnDevice {
                device: path,
                attentions,
                result,
            })),
            Err(error) => Err(failure(attentions)(error)),
        }
    }
}
