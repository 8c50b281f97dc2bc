// SPDX-License-Identifier: MIT OR Apache-2.0

//! The session of `prhctl top` on a terminal: waits for states, keys and signals.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::Terminal;
use ratatui::backend::{Backend, TermionBackend};
use ratatui::termion::event::Key;
use ratatui::termion::input::TermRead as _;
use ratatui::termion::raw::IntoRawMode as _;
use ratatui::termion::screen::IntoAlternateScreen as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{read, retry_on_intr};

use super::counts::{PairCounts, Recent};
use super::screen::{Reaction, Screen};
use super::view::View;
use crate::state::{HelperStates, StateError, StateSource};

/// Signals that end the session, and the one that reports another size of the terminal.
const SIGNALS: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGWINCH,
];

/// States, or the reason why there are none, and when they were read.
type Reading = (Instant, Result<HelperStates, StateError>);

/// Shows the states of `source` on the terminal until the user ends the session. A signal that ends
/// it is raised again after the terminal has its former contents.
pub(super) fn run(source: StateSource, interval: Duration, screen: Screen) -> io::Result<()> {
    let signals = SigSet::from_iter(SIGNALS);
    // The threads that read states inherit the mask.
    signals.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let received = SignalFd::with_flags(&signals, flags)?;
    let end = start(source, interval).and_then(|states| {
        let output = io::stdout().into_raw_mode()?.into_alternate_screen()?;
        let terminal = Terminal::new(TermionBackend::new(output))?;
        let mut session = Session {
            states,
            signals: received,
            screen,
            recent: Recent::default(),
            shown: None,
        };
        session.run(terminal)
    });
    // A process that a signal ends does not write what is buffered.
    io::stdout().flush()?;
    signals.thread_unblock()?;
    if let Some(signal) = end? {
        raise(signal)?;
    }
    Ok(())
}

/// Starts a thread that reads the states again and again.
fn start(source: StateSource, interval: Duration) -> io::Result<States> {
    let (sender, readings) = channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    Builder::new()
        .name("states".to_owned())
        .spawn(move || read_states(&source, interval, &sender, wake))?;
    Ok(States { readings, woken })
}

fn read_states(
    source: &StateSource,
    interval: Duration,
    sender: &Sender<Reading>,
    mut wake: UnixStream,
) {
    loop {
        let started = Instant::now();
        let states = source.read();
        // The other ends are closed when the session ends.
        if sender.send((Instant::now(), states)).is_err() {
            return;
        }
        match wake.write(&[0]) {
            // A byte is there already.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
            Ok(_) => {}
        }
        thread::sleep(interval.saturating_sub(started.elapsed()));
    }
}

/// The states that the other thread reads.
#[derive(Debug)]
struct States {
    readings: Receiver<Reading>,
    /// Readable if there are readings.
    woken: UnixStream,
}

/// The states on the screen.
#[derive(Debug)]
struct Shown {
    states: Result<HelperStates, StateError>,
    /// Commands of the last minute, and the length of that period.
    recent: (PairCounts, Duration),
}

/// A session.
#[derive(Debug)]
struct Session {
    states: States,
    signals: SignalFd,
    screen: Screen,
    recent: Recent,
    shown: Option<Shown>,
}

impl Session {
    /// Returns the signal that ended the session, or `None` if the user ended it.
    fn run<B: Backend<Error = io::Error>>(
        &mut self,
        mut terminal: Terminal<B>,
    ) -> io::Result<Option<Signal>> {
        loop {
            self.draw(&mut terminal)?;
            let mut reaction = Reaction::Nothing;
            while reaction == Reaction::Nothing {
                let keys = match self.wait()? {
                    true => read_keys()?,
                    false => Vec::new(),
                };
                while let Some(info) = self.signals.read_signal()? {
                    match i32::try_from(info.ssi_signo).ok().map(Signal::try_from) {
                        Some(Ok(signal)) if signal != Signal::SIGWINCH => return Ok(Some(signal)),
                        _ => reaction = Reaction::Draw,
                    }
                }
                for key in keys {
                    match self.screen.press(key) {
                        Reaction::Quit => return Ok(None),
                        Reaction::Draw => reaction = Reaction::Draw,
                        Reaction::Nothing => {}
                    }
                }
                if self.receive()? {
                    reaction = Reaction::Draw;
                }
            }
        }
    }

    /// Waits for a signal, a key or states. Returns whether there are keys.
    fn wait(&self) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.states.woken, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut fds, None))?;
        let [keys, ..] = &fds;
        Ok(!keys.revents().is_empty())
    }

    /// Receives the newest states, and returns whether there are any.
    fn receive(&mut self) -> io::Result<bool> {
        match (&self.states.woken).read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // The thread runs until the session has ended.
            result => result?,
        };
        for (time, states) in self.states.readings.try_iter() {
            let recent = match &states {
                Ok(states) => self.recent.update(states, time),
                Err(_) => Default::default(),
            };
            self.shown = Some(Shown { states, recent });
        }
        Ok(true)
    }

    fn draw<B: Backend<Error = io::Error>>(
        &mut self,
        terminal: &mut Terminal<B>,
    ) -> io::Result<()> {
        let Some(Shown { states, recent }) = &self.shown else {
            return Ok(());
        };
        let order = self.screen.order;
        let view = match (states, self.screen.is_total) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(states), true) => Ok(View::since_start(states, order)),
            (Ok(states), false) => Ok(View::new(states, &recent.0, recent.1, order)),
        };
        terminal.draw(|frame| {
            self.screen
                .draw(frame, view.as_ref().map_err(String::as_str));
        })?;
        Ok(())
    }
}

/// Reads keys. At the end of the input, it is the key that ends the session.
fn read_keys() -> io::Result<Vec<Key>> {
    let mut bytes = [0; 64];
    match retry_on_intr(|| read(io::stdin().as_fd(), &mut bytes))? {
        0 => Ok(vec![Key::Ctrl('c')]),
        length => Ok(parse_keys(bytes.get(..length).unwrap_or_default())),
    }
}

/// Returns the keys in `bytes`. Unknown sequences are ignored.
fn parse_keys(bytes: &[u8]) -> Vec<Key> {
    // The library recognizes the key Esc only if it is the first byte.
    let (bytes, last) = match bytes {
        [before @ .., b'\x1b'] => (before, Some(Key::Esc)),
        _ => (bytes, None),
    };
    bytes.keys().filter_map(Result::ok).chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed() {
        for (bytes, expected) in [
            (&b"xq"[..], &[Key::Char('x'), Key::Char('q')][..]),
            (b"\x1b", &[Key::Esc]),
            (b"x\x1b", &[Key::Char('x'), Key::Esc]),
            (
                b"\x1b[A\x1b[6~\t",
                &[Key::Up, Key::PageDown, Key::Char('\t')],
            ),
            (b"\x03", &[Key::Ctrl('c')]),
        ] {
            assert_eq!(parse_keys(bytes), expected, "{bytes:?}");
        }
    }
}
