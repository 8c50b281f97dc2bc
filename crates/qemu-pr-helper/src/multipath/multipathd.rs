//! multipathd, by its socket: which key a map is registered with, so that it registers paths that come
//! back.
//!
//! The verbs and replies are those of multipath-tools 0.8 to 0.14 (`multipathd/cli_handlers.c`); where versions differ
//! there is a remark. A map is named `dm-N`, which all versions understand, and the verb comes first.

use std::io;
use std::time::{Duration, Instant};

use super::deadline::PendingRequest;
use super::multipathd_socket::Sockets;
use super::path::Budget;
use super::pr_out::{Keeper, KeeperError, Kept};
use super::worker_trace::{Step, Trail};
use crate::command::command_log;

/// What multipathd itself gives a command (`uxsock_timeout`), and a little more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long multipathd may take to be told what it need not know.
const ADVICE: Duration = Duration::from_millis(500);

/// How often multipathd is asked that is busy: with paths that have just gone away, most likely.
const ATTEMPTS: usize = 3;

/// Start of the commands that change nothing.
const QUERY: &str = "get";

/// What every success begins with.
const OK: &str = "ok";

/// The suffix of a key that was registered with APTPL.
const APTPL: &str = ":aptpl";

/// multipathd, and the map that it is asked about.
#[derive(Debug)]
pub struct Multipathd {
    map: String,
    sockets: Sockets,
    budget: Budget,
    request: PendingRequest,
    trail: Trail,
}

impl Multipathd {
    /// The one that environment or custom names. `map` is the kernel's name, `dm-N`.
    #[must_use]
    pub fn new(map: String, budget: Budget, request: PendingRequest, trail: Trail) -> Self {
        Self {
            map,
            sockets: Sockets::of_environment(),
            budget,
            request,
            trail,
        }
    }

    /// Has multipathd obey `VERB map dm-N WORDS`.
    fn ask(&self, verb: &str, words: &str) -> Result<String, KeeperError> {
        let space = if words.is_empty() { "" } else { " " };
        let command = format!("{verb} map {}{space}{words}", self.map);
        let mut reply = self.exchange(&command, PATIENCE);
        for _ in 1..ATTEMPTS {
            // One that says nothing at all does not work; it would take all the time there is.
            match &reply {
                Ok(text) if is_timeout(text) => {}
                _ => break,
            }
            reply = self.exchange(&command, PATIENCE);
        }
        let reply = reply.map_err(|error| {
            KeeperError(format!(
                "multipathd does not answer ({error}): start it; it is in the package multipath-tools \
                 or device-mapper-multipath"
            ))
        })?;
        match reply.contains("permission deny") {
            true => Err(KeeperError(
                "multipathd obeys root alone: start the helper as root, it gives its rights up by itself"
                    .to_owned(),
            )),
            false => Ok(reply),
        }
    }

    fn exchange(&self, command: &str, patience: Duration) -> io::Result<String> {
        let start = Instant::now();
        // Zero would be for ever.
        let patience = self
            .budget
            .turn()
            .min(patience)
            .max(Duration::from_millis(1));
        let is_query = command.starts_with(QUERY);
        let reply = match is_query || self.request.is_pending() {
            true => self.sockets.exchange(command, patience),
            false => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "not asked: the command's time is up",
            )),
        };
        self.trail.add(|| Step::Daemon {
            request: command.to_owned(),
            reply: match &reply {
                Ok(text) => text.clone(),
                Err(error) => error.to_string(),
            },
            microseconds: command_log::microseconds(start.elapsed()),
        });
        reply
    }

    fn must(&self, verb: &str) -> Result<(), KeeperError> {
        let reply = self.ask(verb, "")?;
        match reply.starts_with(OK) {
            true => Ok(()),
            false => Err(self.refusal(verb, &reply)),
        }
    }

    fn refusal(&self, verb: &str, reply: &str) -> KeeperError {
        let first = reply.lines().last().unwrap_or_default();
        KeeperError(format!(
            "multipathd refuses '{verb} map {}': {first:?}; does it know the map? see 'multipathd show maps'",
            self.map
        ))
    }

    /// The key that multipathd has, registered or not.
    fn key(&self) -> Result<Option<Kept>, KeeperError> {
        let reply = self.ask("getprkey", "")?;
        match reply.as_str() {
            "none" => Ok(None),
            text => key(text)
                .map(Some)
                .ok_or_else(|| self.refusal("getprkey", text)),
        }
    }
}

/// It could not get at its own state in time.
fn is_timeout(reply: &str) -> bool {
    reply.lines().last() == Some("timeout")
}

/// `0x1234`, or `0x1234:aptpl`.
fn key(text: &str) -> Option<Kept> {
    let (digits, aptpl) = match text.strip_suffix(APTPL) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let key = u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok()?;
    Some(Kept {
        key: key.into(),
        aptpl,
    })
}

impl Keeper for Multipathd {
    fn kept(&mut self) -> Result<Option<Kept>, KeeperError> {
        // A number, and since 0.9.5 a word; "unknown" is before it has looked.
        match self.ask("getprstatus", "")?.as_str() {
            "0" | "unset" => Ok(None),
            "1" | "set" | "unknown" => self.key(),
            reply => Err(self.refusal("getprstatus", reply)),
        }
    }

    fn keep(&mut self, kept: Kept) -> Result<(), KeeperError> {
        let suffix = if kept.aptpl { APTPL } else { "" };
        let words = format!("key {:#x}{suffix}", kept.key.get());
        if self.ask("setprkey", &words)?.starts_with(OK) {
            return Ok(());
        }
        let configured = self.key()?;
        // It has written the key down before it saw that it is not to use it.
        self.ask("unsetprkey", "")?;
        let found = match configured {
            None => "no reservation_key".to_owned(),
            Some(fixed) => format!("the fixed reservation_key {}", fixed.key),
        };
        Err(KeeperError(format!(
            "multipathd has {found} for it: put 'reservation_key file' into section defaults of \
             multipath.conf, then 'multipathd reconfigure'"
        )))
    }

    fn begin(&mut self) -> Result<(), KeeperError> {
        self.must("setprstatus")
    }

    fn forget(&mut self) -> Result<(), KeeperError> {
        self.must("unsetprstatus")?;
        // Of a key that is fixed in multipath.conf it says that it cannot; it is not used any more.
        self.ask("unsetprkey", "").map(|_| ())
    }

    fn hold(&mut self, is_held: bool) {
        // Since 0.13, for those who use libmpathpersist beside us. Older ones refuse it, which is as good.
        let verb = if is_held { "setprhold" } else { "unsetprhold" };
        let _ = self.exchange(&format!("{verb} map {}", self.map), ADVICE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadline::tests::pending;
    use super::*;
    use scsi_pr::ReservationKey;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::thread::{self, JoinHandle};

    /// A multipathd that is asked as many things as there are replies. Gives what it was asked.
    fn replying(path: &Path, replies: &'static [&str]) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut asked = Vec::new();
            for reply in replies {
                let mut socket = listener.accept().unwrap().0;
                let mut length = [0; size_of::<usize>()];
                socket.read_exact(&mut length).unwrap();
                let mut command = vec![0; usize::from_ne_bytes(length)];
                socket.read_exact(&mut command).unwrap();
                assert_eq!(command.pop(), Some(0));
                asked.push(String::from_utf8(command).unwrap());
                let length = reply.len() + 1;
                socket.write_all(&length.to_ne_bytes()).unwrap();
                socket.write_all(reply.as_bytes()).unwrap();
                socket.write_all(&[0]).unwrap();
            }
            asked
        })
    }

    /// What comes of it, and what multipathd was asked.
    fn with<T>(
        replies: &'static [&str],
        ask: impl FnOnce(&mut Multipathd) -> T,
    ) -> (T, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = replying(&path, replies);
        let (request, _helper) = pending();
        let mut client = Multipathd {
            map: "dm-3".to_owned(),
            sockets: Sockets(vec!["/nowhere".into(), path.into()]),
            budget: Budget::new(Duration::from_secs(30), 2),
            request,
            trail: Trail::default(),
        };
        let result = ask(&mut client);
        (result, daemon.join().unwrap())
    }

    const KEPT: Kept = Kept {
        key: ReservationKey::new(0xc3),
        aptpl: true,
    };

    #[test]
    fn what_it_keeps_is_read_as_all_versions_say_it() {
        let kept = |replies| with(replies, |client| client.kept().unwrap()).0;
        assert_eq!(kept(&["0"]), None);
        assert_eq!(kept(&["unset\n"]), None);
        assert_eq!(kept(&["1", "none\n"]), None);
        assert_eq!(kept(&["set\n", "0xc3:aptpl\n"]), Some(KEPT));
        let plain = Kept {
            aptpl: false,
            ..KEPT
        };
        assert_eq!(kept(&["unknown\n", "0xc3\n"]), Some(plain));
    }

    #[test]
    fn a_key_is_told_with_its_flag() {
        let (result, asked) = with(&["ok\n", "ok\n"], |client| {
            client.keep(KEPT).and_then(|()| client.begin())
        });
        result.unwrap();
        assert_eq!(
            asked,
            ["setprkey map dm-3 key 0xc3:aptpl", "setprstatus map dm-3"]
        );
    }

    #[test]
    fn a_key_that_it_does_not_keep_is_taken_back_and_the_setting_is_named() {
        let (result, asked) = with(&["fail\n", "none\n", "ok\n"], |client| client.keep(KEPT));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("'reservation_key file'"), "{error}");
        assert!(error.contains("no reservation_key"), "{error}");
        assert_eq!(asked.last().unwrap(), "unsetprkey map dm-3");

        let (result, _) = with(&["fail\n", "0x77\n", "fail\n"], |client| client.keep(KEPT));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("the fixed reservation_key 0x77"), "{error}");
    }

    #[test]
    fn who_is_not_root_is_told() {
        let (result, _) = with(&["permission deny: need to be root"], |client| {
            client.begin()
        });
        assert!(result.unwrap_err().to_string().contains("obeys root alone"));
    }

    #[test]
    fn one_that_is_busy_is_asked_again() {
        let (result, asked) = with(&["timeout\n", "fail\ntimeout\n", "ok\n"], |client| {
            client.begin()
        });
        result.unwrap();
        assert_eq!(asked.len(), 3);
    }

    #[test]
    fn a_map_that_it_does_not_know_is_named() {
        let (result, _) = with(&["fail\ndevice not found\n"], |client| client.kept());
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("'getprstatus map dm-3': \"device not found\""),
            "{error}"
        );
    }

    #[test]
    fn one_that_is_not_there_is_to_be_started() {
        let (request, _helper) = pending();
        let mut client = Multipathd {
            map: "dm-3".to_owned(),
            sockets: Sockets(vec!["@no such socket".into()]),
            budget: Budget::new(Duration::from_secs(1), 2),
            request,
            trail: Trail::default(),
        };
        let error = client.kept().unwrap_err().to_string();
        assert!(error.contains("start it"), "{error}");
        assert!(error.contains("@no such socket"), "{error}");
    }

    #[test]
    fn change_is_not_sent_after_the_helper_hangs_up() {
        let (result, asked) = with(&["set\n", "0xc3\n"], |client| {
            let (request, helper) = pending();
            drop(helper);
            client.request = request;
            let kept = client.kept();
            (kept, client.keep(KEPT), client.forget())
        });
        result.0.unwrap();
        let error = result.1.unwrap_err().to_string();
        assert!(error.contains("time is up"), "{error}");
        result.2.unwrap_err();
        assert_eq!(asked, ["getprstatus map dm-3", "getprkey map dm-3"]);
    }

    #[test]
    fn a_page_of_help_is_no_success() {
        const HELP: &[&str] = &["multipath-tools v0.8.0\nCLI commands reference:\n list paths\n"];
        let (result, _) = with(HELP, |client| client.begin());
        result.unwrap_err();
        with(HELP, |client| client.hold(true));
    }
}
