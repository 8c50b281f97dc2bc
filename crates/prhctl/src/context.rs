// SPDX-License-Identifier: MIT OR Apache-2.0

//! Context of a subcommand: options that several of them have, and where results and errors go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, ValueHint};
use cli_messages::usage::parse_number;
use pr_helper_protocol::Direction;

use crate::completion;
use crate::confirmation::ConfirmationArgs;
use crate::console::{Console, fit};
use crate::error::{AdvisedError, Error, ErrorText, Failure};
use crate::exit::Exit;
use crate::helper::{HelperConnection, HelperOptions, SocketChoice};
use crate::labels;
use crate::output::json::{self, Json, ToJson};
use crate::output::text::ToText;
use crate::running_helpers::{RunningHelper, running_helpers};
use crate::state::{DEFAULT_TIMEOUT, HelperStates, StateError, StateSource};

macro_rules! default_socket {
    () => {
        "/var/run/qemu-pr-helper.sock"
    };
}

/// Socket that the helper listens on by default.
const DEFAULT_SOCKET: &str = default_socket!();

/// Maximum of `--timeout` in seconds.
const MAX_TIMEOUT: u64 = 86_400;

/// Heading of options that several subcommands have.
pub(crate) const OPTIONS: &str = "Common options";

/// The connection to the helper. The options can be before or after the subcommand.
#[derive(Debug, Default, Args)]
pub(crate) struct HelperArgs {
    #[arg(
        short = 'k', long, value_name = "PATH", add = completion::file(),
        value_parser = PathBufValueParser::new().try_map(labels::check_socket),
        help_heading = OPTIONS,
        help = concat!(
            "Unix socket of the helper\n[default: ", default_socket!(), ",\n\
             or else that of the only helper that runs]"
        )
    )]
    pub(crate) socket: Option<PathBuf>,

    /// Time limit in seconds for each response
    #[arg(
        long, value_name = "SECONDS", value_hint = ValueHint::Other, help_heading = OPTIONS,
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=MAX_TIMEOUT)
    )]
    pub(crate) timeout: Option<u64>,

    /// Print the bytes sent and received
    #[arg(short, long, help_heading = OPTIONS)]
    pub(crate) verbose: bool,
}

impl HelperArgs {
    /// Returns whether the command line has one of the options.
    pub(crate) fn is_given(&self) -> bool {
        self.socket.is_some() || self.timeout.is_some() || self.verbose
    }
}

/// The devices that a subcommand is for, and the connection to the helper.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Paths of the disks
    #[arg(value_name = "DEVICE", add = completion::device(), required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) helper: HelperArgs,
}

/// Context of a subcommand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) console: Console,
    /// Value of `--json`.
    pub(crate) is_json: bool,
    /// Options before the subcommand.
    pub(crate) helper: HelperArgs,
}

impl Context {
    /// Queries each device with `query`, and prints the results.
    pub(crate) fn query<T: ToText + ToJson>(
        &self,
        devices: &DeviceArgs,
        query: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
    ) -> Exit {
        self.query_paths(&devices.paths, &devices.helper, query)
    }

    /// Queries the device at each path with `query`, and prints the results.
    pub(crate) fn query_paths<T: ToText + ToJson>(
        &self,
        paths: &[PathBuf],
        helper: &HelperArgs,
        query: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
    ) -> Exit {
        let helper = self.helper(helper);
        self.run(paths, helper, Direction::In, query, |_| Exit::SUCCESS)
    }

    /// Like [`Self::query_paths`], through any helper if several run and none is named. The result
    /// of the query must not depend on the helper.
    pub(crate) fn query_paths_through_any<T: ToText + ToJson>(
        &self,
        paths: &[PathBuf],
        helper: &HelperArgs,
        query: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
    ) -> Exit {
        let first = match self.helper(helper) {
            Err(Error::SeveralHelpers(helpers)) => match helpers.first() {
                Some(first) => {
                    let (socket, choice) = self.found(first);
                    Ok(self.options(helper, socket, choice))
                }
                None => Err(Error::SeveralHelpers(helpers)),
            },
            helper => helper,
        };
        self.run(paths, first, Direction::In, query, |_| Exit::SUCCESS)
    }

    /// Changes each device with `change`, and prints the results.
    pub(crate) fn change<T: ToText + ToJson>(
        &self,
        devices: &DeviceArgs,
        change: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
    ) -> Exit {
        self.change_with_exit(devices, change, |_| Exit::SUCCESS)
    }

    /// Like [`Self::change`], after the operator has confirmed the `effect`.
    pub(crate) fn change_if_confirmed<T: ToText + ToJson>(
        &self,
        devices: &DeviceArgs,
        confirmation: &ConfirmationArgs,
        effect: &str,
        change: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
    ) -> Exit {
        match confirmation.confirm(self.console, effect, &devices.paths) {
            Ok(()) => self.change(devices, change),
            Err(error) => self.print_failure(&error.into()),
        }
    }

    /// Like [`Self::change`], with the exit status for each result.
    pub(crate) fn change_with_exit<T: ToText + ToJson>(
        &self,
        devices: &DeviceArgs,
        change: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
        exit: impl Fn(&T) -> Exit,
    ) -> Exit {
        let DeviceArgs { paths, helper } = devices;
        self.run(paths, self.helper(helper), Direction::Out, change, exit)
    }

    fn run<T: ToText + ToJson>(
        &self,
        paths: &[PathBuf],
        helper: Result<HelperOptions, Error>,
        direction: Direction,
        run: impl Fn(&mut HelperConnection<'_>) -> Result<T, Error>,
        exit: impl Fn(&T) -> Exit,
    ) -> Exit {
        let options = match helper {
            Ok(options) => options,
            Err(error) => return self.print_failure(&error.into()),
        };
        let results = paths.iter().map(|path| {
            let mut helper = HelperConnection::open(&options, path, direction)?;
            let result = run(&mut helper);
            helper.finish(result)
        });
        self.finish_all(results, |result| exit(&result.value))
    }

    /// Prints results and errors, each when it is there; as JSON, one document follows at the end:
    /// that of the only device, or a list. Returns the exit status of the first failure.
    fn finish_all<T: ToText + ToJson>(
        &self,
        results: impl Iterator<Item = Result<T, Failure>>,
        exit_of: impl Fn(&T) -> Exit,
    ) -> Exit {
        let (mut exit, mut documents) = (Exit::SUCCESS, Vec::new());
        for result in results {
            let status = match &result {
                Ok(value) if self.is_json => {
                    documents.push(value.to_json());
                    exit_of(value)
                }
                Ok(value) => self.print(value, exit_of(value)),
                Err(failure) => {
                    let text = self.print_error(failure.error.as_ref());
                    documents.push(json::failure(failure, &text));
                    failure.error.exit()
                }
            };
            if exit == Exit::SUCCESS || exit == Exit::UNCHANGED && status != Exit::SUCCESS {
                exit = status;
            }
        }
        let document = match documents.len() {
            1 => documents.pop(),
            _ => Some(Json::Array(documents)),
        };
        match document.filter(|_| self.is_json) {
            Some(document) => self.console.print(&document.pretty(), exit),
            None => exit,
        }
    }

    /// Returns the connection to the helper. `args` are the options after the subcommand.
    pub(crate) fn helper(&self, args: &HelperArgs) -> Result<HelperOptions, Error> {
        let (socket, choice) = match args.socket.as_ref().or(self.helper.socket.as_ref()) {
            Some(socket) => (socket.clone(), SocketChoice::Named),
            None => self.find_socket()?,
        };
        Ok(self.options(args, socket, choice))
    }

    fn options(&self, args: &HelperArgs, socket: PathBuf, choice: SocketChoice) -> HelperOptions {
        let before = &self.helper;
        HelperOptions {
            socket,
            choice,
            timeout: args.timeout.or(before.timeout).map(Duration::from_secs),
            is_verbose: args.verbose || before.verbose,
            console: self.console,
        }
    }

    /// Returns the states of the helpers of this host, or of the one that listens on the socket of
    /// the command line. If only some of the states can be read, the other helpers are reported to
    /// standard error.
    pub(crate) fn states(&self, args: &HelperArgs) -> Result<HelperStates, StateError> {
        self.read_states(args, &self.state_source(args))
    }

    /// Like [`Self::states`], for all helpers.
    pub(crate) fn all_states(&self, args: &HelperArgs) -> Result<HelperStates, StateError> {
        let socket = None;
        let source = self.state_source(args);
        self.read_states(args, &StateSource { socket, ..source })
    }

    /// Returns where the command line says that states are to be read from.
    pub(crate) fn state_source(&self, args: &HelperArgs) -> StateSource {
        let before = &self.helper;
        let timeout = args.timeout.or(before.timeout);
        StateSource {
            socket: args.socket.clone().or_else(|| before.socket.clone()),
            timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        }
    }

    fn read_states(
        &self,
        args: &HelperArgs,
        source: &StateSource,
    ) -> Result<HelperStates, StateError> {
        let states = source.read()?;
        for helper in &states.0 {
            match &helper.state {
                Err(error) => self.console.note(&format!("{error}; it is not shown")),
                Ok(state) if args.verbose || self.helper.verbose => {
                    // A document has no member that cannot be serialized.
                    let state = serde_json::to_string(state).unwrap_or_default();
                    let text = format!("{}: received state: {state}", helper.process);
                    self.console.note(&text);
                }
                Ok(_) => {}
            }
        }
        Ok(states)
    }

    /// Returns the default socket or, if it does not exist, that of the only running helper.
    fn find_socket(&self) -> Result<(PathBuf, SocketChoice), Error> {
        let default = PathBuf::from(DEFAULT_SOCKET);
        // An error of the file system is reported when prhctl connects.
        if default.try_exists().unwrap_or(true) {
            return Ok((default, SocketChoice::Named));
        }
        let helpers = running_helpers(Path::new("/proc"));
        match helpers.as_slice() {
            [] => Ok((default, SocketChoice::NoneFound)),
            [helper] => Ok(self.found(helper)),
            _ => Err(Error::SeveralHelpers(helpers)),
        }
    }

    /// Returns the socket of a helper that a search has found, and prints a note.
    fn found(&self, helper: &RunningHelper) -> (PathBuf, SocketChoice) {
        self.console.note(&format!("using the helper at {helper}"));
        (helper.socket.clone(), SocketChoice::Found)
    }

    /// Prints a result or an error.
    pub(crate) fn finish<T: ToText + ToJson, E: Into<Failure>>(
        &self,
        result: Result<T, E>,
    ) -> Exit {
        match result {
            Ok(value) => self.print(&value, Exit::SUCCESS),
            Err(error) => self.print_failure(&error.into()),
        }
    }

    /// Prints a result, and returns `exit` unless that fails.
    pub(crate) fn print<T: ToText + ToJson>(&self, value: &T, exit: Exit) -> Exit {
        let text = match self.is_json {
            true => value.to_json().pretty(),
            false => fit(&value.to_text()),
        };
        self.console.print(&text, exit)
    }

    /// Prints an error to standard error, and with `--json` also as a document.
    pub(crate) fn print_failure(&self, failure: &Failure) -> Exit {
        let exit = failure.error.exit();
        let text = self.print_error(failure.error.as_ref());
        match self.is_json {
            true => self
                .console
                .print(&json::failure(failure, &text).pretty(), exit),
            false => exit,
        }
    }

    /// Prints an error to standard error, and returns its text.
    pub(crate) fn print_error(&self, error: &dyn AdvisedError) -> ErrorText {
        let text = ErrorText::new(error);
        self.console.error(&text.message, &text.advice);
        text
    }
}
