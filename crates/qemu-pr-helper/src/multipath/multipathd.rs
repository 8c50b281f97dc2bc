// SPDX-License-Identifier: MIT OR Apache-2.0

//! Client of multipathd. multipathd stores the key that a map is registered with, and registers
//! paths that return.
//!
//! The commands and replies are those of multipath-tools 0.8 to 0.15 (`multipathd/cli_handlers.c`);
//! comments note where versions differ. A map is named `dm-N`, which all versions understand, and
//! the verb comes first.

use std::rc::Rc;
use std::time::Duration;

use super::deadline::TimeBudget;
use super::multipathd_connection::{BEST_EFFORT_TIMEOUT, Connection};
use super::pr_out::{PrKey, PrKeyStore, PrKeyStoreError};
use super::steps::{Attempt, StepResult};
use super::version::MultipathdVersion;
use super::worker_trace::WorkerTrace;

/// Time limit for a command: that of multipathd itself (`uxsock_timeout`, 4 s), and a little more.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of attempts if multipathd is busy, most likely with paths that have just failed.
const MAX_ATTEMPTS: usize = 3;

/// Start of the commands that change nothing.
const QUERY: &str = "get";

/// Start of every reply that reports success.
const OK: &str = "ok";

/// Suffix of a key that was registered with APTPL.
const APTPL: &str = ":aptpl";

/// Reply in the trace to a command that is sent after the guest's reply.
const POSTED: &str = "(sent later)";

/// Maximum number of characters of a reply in the trace.
const MAX_TRACED: usize = 200;

/// Client of multipathd for one request.
#[derive(Debug)]
pub(super) struct Multipathd<'a> {
    map: String,
    connection: &'a mut Connection,
    budget: TimeBudget,
    attempt: Rc<Attempt>,
    trace: WorkerTrace,
    version: Version,
}

/// Knowledge of multipathd's version.
#[derive(Clone, Copy, Debug)]
enum Version {
    Known(MultipathdVersion),
    /// multipathd has not been asked.
    NotQueried,
    /// multipathd did not reply with a version.
    Unknown,
}

impl<'a> Multipathd<'a> {
    /// Creates a client for the map with the kernel's name `map` (`dm-N`), and multipathd's version
    /// if it is known.
    pub(super) fn new(
        map: String,
        connection: &'a mut Connection,
        version: Option<MultipathdVersion>,
        budget: TimeBudget,
        attempt: Rc<Attempt>,
        trace: WorkerTrace,
    ) -> Self {
        Self {
            map,
            connection,
            budget,
            attempt,
            trace,
            version: version.map_or(Version::NotQueried, Version::Known),
        }
    }

    /// Returns multipathd's version, and asks for it if it is not known; `None` if multipathd does
    /// not answer.
    pub(super) fn version(&mut self) -> Option<MultipathdVersion> {
        if matches!(self.version, Version::NotQueried) {
            let help = self.exchange_one("help".to_owned(), BEST_EFFORT_TIMEOUT);
            let version = help.and_then(|help| MultipathdVersion::from_help(&help));
            self.version = version.map_or(Version::Unknown, Version::Known);
        }
        match self.version {
            Version::Known(version) => Some(version),
            Version::NotQueried | Version::Unknown => None,
        }
    }

    /// Sends `VERB map dm-N WORDS` and returns the reply.
    fn command(&mut self, verb: &str, words: &str) -> Result<String, PrKeyStoreError> {
        let space = if words.is_empty() { "" } else { " " };
        let command = format!("{}{space}{words}", self.on_map(verb));
        Ok(self.commands(&[command])?.pop().unwrap_or_default())
    }

    /// Returns the command `VERB map dm-N`.
    fn on_map(&self, verb: &str) -> String {
        format!("{verb} map {}", self.map)
    }

    /// Sends commands at once, and returns the replies. Retries while multipathd is busy.
    fn commands(&mut self, commands: &[String]) -> Result<Vec<String>, PrKeyStoreError> {
        let mut replies = self.exchange(commands, COMMAND_TIMEOUT);
        for _ in 1..MAX_ATTEMPTS {
            // Do not retry if there is no reply: multipathd does not work, and further attempts
            // would take all the time that is left.
            match &replies {
                Ok(texts) if texts.iter().any(|text| is_timeout(text)) => {}
                _ => break,
            }
            replies = self.exchange(commands, COMMAND_TIMEOUT);
        }
        let replies = replies.map_err(|error| {
            PrKeyStoreError(format!(
                "multipathd does not answer: {error}; start it (package multipath-tools or \
                 device-mapper-multipath)"
            ))
        })?;
        match replies.iter().any(|text| text.contains("permission deny")) {
            true => Err(PrKeyStoreError(
                "multipathd denied permission: it accepts this command only from root; start the \
                 helper as root, it drops its privileges itself"
                    .to_owned(),
            )),
            false => Ok(replies),
        }
    }

    /// Returns whether multipathd may know the commands for the holder. Older versions reject them,
    /// which takes time, but is harmless.
    fn may_store_holder(&mut self) -> bool {
        self.version().is_none_or(MultipathdVersion::stores_holder)
    }

    /// Sends a command, and returns the reply if there is one.
    fn exchange_one(&mut self, command: String, timeout: Duration) -> Option<String> {
        self.exchange(&[command], timeout).ok()?.pop()
    }

    /// Sends commands at once, and returns the replies.
    fn exchange(&mut self, commands: &[String], timeout: Duration) -> Result<Vec<String>, String> {
        let timeout = self.budget.path_timeout().min(timeout);
        // A socket timeout of zero would mean no timeout.
        let timeout = timeout.max(Duration::from_millis(1));
        let (connection, budget) = (&mut *self.connection, &self.budget);
        let send = || {
            let are_queries = commands.iter().all(|command| command.starts_with(QUERY));
            StepResult::Multipathd(match are_queries || budget.pending.is_pending() {
                true => connection
                    .send(commands, timeout)
                    .map_err(|error| error.to_string()),
                false => Err("not sent: the request timed out".to_owned()),
            })
        };
        // The timeouts of the socket apply before this one.
        let (result, took) = self.attempt.step(COMMAND_TIMEOUT.saturating_mul(4), send);
        let replies = match result {
            Some(StepResult::Multipathd(replies)) => replies,
            Some(StepResult::Path(_)) | None => Err("the command hangs".to_owned()),
        };
        for (index, command) in commands.iter().enumerate() {
            let text = match &replies {
                Ok(texts) => texts.get(index).map_or("", String::as_str),
                Err(error) => error,
            };
            let text: String = text.chars().take(MAX_TRACED).collect();
            self.trace.record_multipathd(command, &text, took);
        }
        replies
    }

    /// Sends a command that must succeed.
    fn command_ok(&mut self, verb: &str, words: &str) -> Result<(), PrKeyStoreError> {
        let reply = self.command(verb, words)?;
        match reply.starts_with(OK) {
            true => Ok(()),
            false => Err(self.unexpected_reply(verb, &reply)),
        }
    }

    fn unexpected_reply(&self, verb: &str, reply: &str) -> PrKeyStoreError {
        let last = reply.lines().last().unwrap_or_default();
        PrKeyStoreError(format!(
            "multipathd rejected '{verb} map {}': {last:?}; check that 'multipathd show maps' \
             lists the map",
            self.map
        ))
    }

    /// Returns the key in the reply to `getprkey`, which multipathd stores, whether or not it
    /// registers it.
    fn stored_key(&self, reply: &str) -> Result<Option<PrKey>, PrKeyStoreError> {
        match reply {
            "none" => Ok(None),
            text => parse_key(text)
                .map(Some)
                .ok_or_else(|| self.unexpected_reply("getprkey", text)),
        }
    }
}

/// Returns whether multipathd could not lock its own state in time.
fn is_timeout(reply: &str) -> bool {
    reply.lines().last() == Some("timeout")
}

/// Parses `0x1234` or `0x1234:aptpl`.
fn parse_key(text: &str) -> Option<PrKey> {
    let (digits, aptpl) = match text.strip_suffix(APTPL) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let key = u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok()?;
    Some(PrKey {
        key: key.into(),
        aptpl,
    })
}

impl PrKeyStore for Multipathd<'_> {
    fn key(&mut self) -> Result<Option<PrKey>, PrKeyStoreError> {
        let queries = ["getprstatus", "getprkey"].map(|verb| self.on_map(verb));
        let replies = self.commands(&queries)?;
        let [status, key] = replies.as_slice() else {
            return Err(self.unexpected_reply("getprstatus", ""));
        };
        // The reply is a number, and since 0.9.5 a word. "unknown" means that multipathd has not
        // checked yet.
        match status.as_str() {
            "0" | "unset" => Ok(None),
            "1" | "set" | "unknown" => self.stored_key(key),
            reply => Err(self.unexpected_reply("getprstatus", reply)),
        }
    }

    fn set_key(&mut self, key: PrKey) -> Result<(), PrKeyStoreError> {
        let suffix = if key.aptpl { APTPL } else { "" };
        let words = format!("key {:#x}{suffix}", key.key.get());
        if self.command("setprkey", &words)?.starts_with(OK) {
            return Ok(());
        }
        let configured = self.command("getprkey", "")?;
        let configured = self.stored_key(&configured)?;
        // multipathd stores the key before it finds that it must not use the key.
        self.command("unsetprkey", "")?;
        let found = match configured {
            None => "no reservation_key".to_owned(),
            Some(fixed) => format!("the fixed reservation_key {}", fixed.key),
        };
        Err(PrKeyStoreError(format!(
            "multipathd has {found} for the map; set 'reservation_key file' in the defaults \
             section of multipath.conf and run 'multipathd reconfigure'"
        )))
    }

    fn enable(&mut self, registered: &[String]) -> Result<(), PrKeyStoreError> {
        let accepts_path_list = self
            .version()
            .is_some_and(MultipathdVersion::accepts_path_list);
        let words = match accepts_path_list && !registered.is_empty() {
            true => format!("pathlist \"{}\"", registered.join(" ")),
            false => String::new(),
        };
        self.command_ok("setprstatus", &words)
    }

    fn disable(&mut self) -> Result<(), PrKeyStoreError> {
        self.command_ok("unsetprstatus", "")?;
        // multipathd replies with a failure if multipath.conf fixes the key, but does not use that
        // key anymore.
        self.command("unsetprkey", "").map(|_| ())
    }

    fn is_holding(&mut self) -> Option<bool> {
        if !self.may_store_holder() {
            return None;
        }
        let query = self.on_map("getprhold");
        match self.exchange_one(query, BEST_EFFORT_TIMEOUT)?.as_str() {
            "set" => Some(true),
            "unset" => Some(false),
            _ => None,
        }
    }

    fn set_holding(&mut self, is_holder: bool) {
        if !self.may_store_holder() {
            return;
        }
        let verb = if is_holder {
            "setprhold"
        } else {
            "unsetprhold"
        };
        let command = self.on_map(verb);
        self.trace.record_multipathd(&command, POSTED, 0);
        // The guest does not wait for this: it is for programs that use libmpathpersist beside the
        // helper, and for the next command that takes a reservation over.
        self.connection.post(command);
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadline::{PendingRequest, tests::pending};
    use super::super::steps::Steps;
    use super::*;
    use scsi_pr::ReservationKey;
    use std::ffi::OsString;
    use std::io::{BufReader, Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::thread::{self, JoinHandle};

    /// Starts a multipathd that accepts one connection, and sends one reply to each command.
    /// Returns the commands.
    fn spawn_multipathd(path: &Path, replies: &'static [&str]) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut commands = Vec::new();
            for reply in replies {
                let mut length = [0; size_of::<usize>()];
                socket.read_exact(&mut length).unwrap();
                let mut command = vec![0; usize::from_ne_bytes(length)];
                socket.read_exact(&mut command).unwrap();
                assert_eq!(command.pop(), Some(0));
                commands.push(String::from_utf8(command).unwrap());
                let length = reply.len() + 1;
                socket.write_all(&length.to_ne_bytes()).unwrap();
                socket.write_all(reply.as_bytes()).unwrap();
                socket.write_all(&[0]).unwrap();
            }
            commands
        })
    }

    fn connection(sockets: Vec<OsString>) -> Connection {
        Connection {
            sockets,
            socket: None,
            posted: Vec::new(),
        }
    }

    fn client<'a>(connection: &'a mut Connection, pending: &PendingRequest) -> Multipathd<'a> {
        Multipathd {
            map: "dm-3".to_owned(),
            connection,
            budget: TimeBudget::new(pending, 2),
            attempt: Steps::new().unwrap().begin_request().unwrap(),
            trace: WorkerTrace::default(),
            version: Version::Unknown,
        }
    }

    /// Returns the result of `run`, and the commands that multipathd received.
    fn with_replies<T>(
        replies: &'static [&str],
        run: impl FnOnce(&mut Multipathd<'_>) -> T,
    ) -> (T, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let multipathd = spawn_multipathd(&path, replies);
        let (pending, _helper) = pending();
        let mut connection = connection(vec!["/nowhere".into(), path.into()]);
        let result = run(&mut client(&mut connection, &pending));
        connection.send_posted();
        drop(connection);
        (result, multipathd.join().unwrap())
    }

    const KEY: PrKey = PrKey {
        key: ReservationKey::new(0xc3),
        aptpl: true,
    };

    #[test]
    fn key_is_parsed_from_the_replies_of_all_versions() {
        let key = |replies| with_replies(replies, |client| client.key().unwrap()).0;
        assert_eq!(key(&["0", "none\n"]), None);
        assert_eq!(key(&["unset\n", "0xc3\n"]), None);
        assert_eq!(key(&["1", "none\n"]), None);
        assert_eq!(key(&["set\n", "0xc3:aptpl\n"]), Some(KEY));
        let plain = PrKey {
            aptpl: false,
            ..KEY
        };
        assert_eq!(key(&["unknown\n", "0xc3\n"]), Some(plain));
    }

    #[test]
    fn version_is_asked_for_with_help() {
        const HELP: &[&str] = &["multipath-tools v0.15.1 (04/30, 2026)\nCLI commands reference:\n"];
        let (versions, commands) = with_replies(HELP, |client| {
            client.version = Version::NotQueried;
            [client.version(), client.version()]
        });
        assert_eq!(versions, [Some(MultipathdVersion([0, 15, 1])); 2]);
        assert_eq!(commands, ["help"]);
    }

    #[test]
    fn version_without_holder_gets_no_command() {
        let (pending, _helper) = pending();
        let mut connection = connection(vec!["/nowhere".into()]);
        let mut client = client(&mut connection, &pending);
        client.version = Version::Known(MultipathdVersion([0, 11, 1]));
        assert_eq!(client.is_holding(), None);
        let (found, commands) = with_replies(&["set\n"], |client| {
            client.version = Version::Known(MultipathdVersion([0, 13, 0]));
            client.is_holding()
        });
        assert_eq!(
            (found, commands),
            (Some(true), vec!["getprhold map dm-3".to_owned()])
        );
    }

    #[test]
    fn holder_is_sent_later_but_in_order() {
        let (sent, commands) = with_replies(&["ok\n", "set\n", "ok\n"], |client| {
            client.version = Version::Known(MultipathdVersion([0, 13, 0]));
            client.set_holding(true);
            let sent = client.connection.socket.is_some();
            assert_eq!(client.is_holding(), Some(true));
            client.set_holding(false);
            sent
        });
        assert!(!sent);
        let words = commands.iter().map(|command| command.split(' ').next());
        let words: Vec<_> = words.flatten().collect();
        assert_eq!(words, ["setprhold", "getprhold", "unsetprhold"]);
    }

    #[test]
    fn key_is_sent_with_aptpl() {
        let (result, commands) = with_replies(&["ok\n", "ok\n"], |client| {
            client.set_key(KEY).and_then(|()| client.enable(&[]))
        });
        result.unwrap();
        assert_eq!(
            commands,
            ["setprkey map dm-3 key 0xc3:aptpl", "setprstatus map dm-3"]
        );
    }

    #[test]
    fn registered_paths_are_sent_since_0_14() {
        for (version, expected) in [
            ([0, 13, 9], "setprstatus map dm-3"),
            ([0, 14, 0], "setprstatus map dm-3 pathlist \"8:0 8:16\""),
        ] {
            let (result, commands) = with_replies(&["ok\n"], |client| {
                client.version = Version::Known(MultipathdVersion(version));
                client.enable(&["8:0".to_owned(), "8:16".to_owned()])
            });
            result.unwrap();
            assert_eq!(commands, [expected]);
        }
    }

    #[test]
    fn rejected_key_is_unset_and_the_setting_named() {
        let set_key = |replies| {
            let (result, commands) = with_replies(replies, |client| client.set_key(KEY));
            (result.unwrap_err().to_string(), commands)
        };
        let (error, commands) = set_key(&["fail\n", "none\n", "ok\n"]);
        assert!(error.contains("'reservation_key file'"), "{error}");
        assert!(error.contains("no reservation_key"), "{error}");
        assert_eq!(commands.last().unwrap(), "unsetprkey map dm-3");

        let (error, _) = set_key(&["fail\n", "0x77\n", "fail\n"]);
        assert!(error.contains("the fixed reservation_key 0x77"), "{error}");
    }

    #[test]
    fn denied_permission_is_explained() {
        const DENIED: &[&str] = &["permission deny: need to be root"];
        let (result, _) = with_replies(DENIED, |client| client.enable(&[]));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("only from root"), "{error}");
    }

    #[test]
    fn timeout_reply_is_retried() {
        const REPLIES: &[&str] = &["timeout\n", "fail\ntimeout\n", "ok\n"];
        let (result, commands) = with_replies(REPLIES, |client| client.enable(&[]));
        result.unwrap();
        assert_eq!(commands.len(), 3);
    }

    #[test]
    fn restarted_multipathd_receives_the_command() {
        let (result, commands) = with_replies(&["ok\n"], |client| {
            // The other end is closed.
            let pair = UnixStream::pair().ok();
            client.connection.socket = pair.map(|(socket, _)| BufReader::new(socket));
            client.enable(&[])
        });
        result.unwrap();
        assert_eq!(commands, ["setprstatus map dm-3"]);
    }

    #[test]
    fn unknown_map_is_named() {
        let (result, _) = with_replies(&["fail\ndevice not found\n"; 2], |client| client.key());
        let error = result.unwrap_err().to_string();
        let expected = "'getprstatus map dm-3': \"device not found\"";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn absent_multipathd_is_reported() {
        let (pending, _helper) = pending();
        let mut connection = connection(vec!["@no such socket".into()]);
        let mut client = client(&mut connection, &pending);
        let error = client.key().unwrap_err().to_string();
        assert!(error.contains("start it"), "{error}");
        assert!(error.contains("@no such socket"), "{error}");
    }

    #[test]
    fn change_is_not_sent_after_the_helper_hangs_up() {
        let (result, commands) = with_replies(&["set\n", "0xc3\n"], |client| {
            let (pending, helper) = pending();
            drop(helper);
            client.budget = TimeBudget::new(&pending, 2);
            let key = client.key();
            (key, client.set_key(KEY), client.disable())
        });
        result.0.unwrap();
        let error = result.1.unwrap_err().to_string();
        assert!(error.contains("timed out"), "{error}");
        result.2.unwrap_err();
        assert_eq!(commands, ["getprstatus map dm-3", "getprkey map dm-3"]);
    }

    #[test]
    fn page_of_help_is_not_success() {
        const HELP: &[&str] = &["multipath-tools v0.8.0\nCLI commands reference:\n list paths\n"];
        let (result, _) = with_replies(HELP, |client| client.enable(&[]));
        result.unwrap_err();
        with_replies(HELP, |client| client.set_holding(true));
    }
}
