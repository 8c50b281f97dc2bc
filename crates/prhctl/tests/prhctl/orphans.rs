// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations without an owner, through the real helper.

use std::fs::{self, File};
use std::path::Path;

use pr_testkit::cdb::register;
use pr_testkit::{HelperProcess, eventually, skip};
use rustix::process::geteuid;
use serde_json::Value;

use crate::demo::real_helper;
use crate::support::{Run, prhctl};

/// The real helper in a directory with a soft LUN that has the ports `a` and `b`.
struct Fixture {
    dir: tempfile::TempDir,
    helper: HelperProcess,
}

impl Fixture {
    /// Returns `None` with a printed reason if the open files of other processes are not visible.
    fn new() -> Option<Self> {
        if !geteuid().is_root() {
            skip("root is needed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("luns")).unwrap();
        let ports = "--port a=sas,5001405000000001@1 --port b=sas,5001405000000002@2";
        let create = format!("lun create luns/l {ports}");
        Run::new(&mut prhctl(dir.path(), &create), "").success();
        for port in ["a", "b"] {
            let link = dir.path().join(port);
            std::os::unix::fs::symlink(format!("luns/l/ports/{port}"), link).unwrap();
        }
        let builder = HelperProcess::builder(real_helper()).socket(dir.path().join("socket"));
        let builder = builder.arg("--soft-luns").arg(dir.path().join("luns"));
        Some(Fixture {
            helper: builder.start().unwrap(),
            dir,
        })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &str) -> Run {
        Run::new(
            &mut prhctl(self.dir.path(), &format!("-k socket {arguments}")),
            "",
        )
    }

    /// Registers a key over a port, which reports an earlier preemption first.
    fn register(&self, port: &str, key: &str) {
        self.run(&format!("keys {port}"));
        self.run(&format!("register {port} --key {key}")).success();
    }

    /// Returns the keys with their verdicts, as `prhctl orphans` with these arguments says.
    fn verdicts(&self, arguments: &str) -> Vec<String> {
        let document = self.run(&format!("--json orphans {arguments}")).json();
        let registrations = document["registrations"].as_array().unwrap();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        registrations
            .iter()
            .map(|one| format!("{} {}", text(one, "key"), text(one, "verdict")))
            .collect()
    }

    /// Removes the registrations with a key, and returns standard output.
    fn reap(&self, arguments: &str) -> String {
        let run = self.run(&format!("reap {arguments} --yes"));
        assert_eq!(run.status, 0, "{run:?}");
        run.stdout
    }

    #[track_caller]
    fn expect_refusal(&self, arguments: &str, fragment: &str) {
        let run = self.run(&format!("reap {arguments} --yes"));
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains(fragment), "{run:?}");
    }

    /// Writes the report of the host with port `b`.
    fn report(&self) {
        let report = self.run("--json orphans b").stdout;
        fs::write(self.path("report"), report).unwrap();
    }

    /// Returns the keys and the holder.
    fn state(&self) -> String {
        let document = self.run("--json holders a").json();
        let registrants = document["registrants"].as_array().unwrap().iter();
        let keys = registrants.map(|one| one["key"].as_str().unwrap().to_owned());
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        let held = match document["reservation"].is_null() {
            true => "free",
            false => "reserved",
        };
        format!("{} {held}", keys.join(" "))
    }
}

#[test]
fn registration_of_a_process_that_has_gone_is_an_orphan() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.register("a", "a");
    assert_eq!(fixture.verdicts("a"), ["0xa orphan"]);
    let text = fixture.run("orphans a").success();
    assert!(text.starts_with("a: 1 registration, 1 orphan\n"), "{text}");

    // A process that has the disk open can be the owner after a restart of the helper.
    let open = File::open(fixture.path("a")).unwrap();
    assert_eq!(fixture.verdicts("a"), ["0xa unknown"]);
    fixture.expect_refusal("a --key a", "has the disk open");
    assert_eq!(fixture.state(), "0xa free");
    drop(open);

    fixture.expect_refusal("a --key b", "no registration has the key 0xb");
    assert_eq!(
        fixture.reap("a --key a"),
        "a: 1 registration with key 0xa removed\n"
    );
    assert_eq!(fixture.state(), " free");
}

#[test]
fn key_of_a_connected_client_is_never_an_orphan() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut client = fixture.helper.client();
    let port = File::options()
        .read(true)
        .write(true)
        .open(fixture.path("a"));
    client.execute(&register(0, 0xa), port.unwrap());
    // Even if the client has closed the disk.
    assert_eq!(fixture.verdicts("a"), ["0xa alive"]);
    fixture.expect_refusal("a --key a", "is connected to a helper");
    drop(client);
    eventually("the client is disconnected", || {
        (fixture.verdicts("a") == ["0xa orphan"]).then_some(())
    });
}

#[test]
fn other_host_decides_about_its_registrations() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.register("a", "a");
    fixture.register("b", "b");
    assert_eq!(fixture.verdicts("a"), ["0xa orphan", "0xb unknown"]);
    fixture.expect_refusal("a --key b", "made by another host");

    // The other host says that a process has its disk open.
    let open = File::open(fixture.path("b")).unwrap();
    fixture.report();
    let known = "a --known report";
    assert_eq!(fixture.verdicts(known), ["0xa orphan", "0xb unknown"]);
    fixture.expect_refusal("a --key b --known report", "its host says");
    drop(open);

    fixture.report();
    assert_eq!(fixture.verdicts(known), ["0xa orphan", "0xb orphan"]);
    // The owner can have registered again since.
    fixture
        .run("register b --key b --ignore-existing")
        .success();
    assert_eq!(fixture.verdicts(known), ["0xa orphan", "0xb unknown"]);
    fixture.expect_refusal("a --key b --known report", "changed since the report");
    fixture.report();
    fixture.reap("a --key b --known report");
    assert_eq!(fixture.state(), "0xa free");

    // The own registration is removed although the other host has the same key.
    fixture.register("b", "a");
    assert_eq!(
        fixture.reap("a --key a"),
        "a: 1 registration with key 0xa removed\n"
    );
    assert_eq!(fixture.state(), "0xa free");
    let off = "--powered-off sas,5001405000000002";
    assert_eq!(fixture.verdicts(&format!("a {off}")), ["0xa orphan"]);
    fixture.reap(&format!("a --key a {off}"));
    assert_eq!(fixture.state(), " free");
}

#[test]
fn reservation_ends_only_with_the_last_registration() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let off = "--powered-off sas,5001405000000002";
    for kind in ["we-ro", "ea"] {
        fixture.register("a", "a");
        fixture.register("b", "b");
        fixture
            .run(&format!("reserve b --key b --type {kind}"))
            .success();
        fixture.expect_refusal(&format!("a --key b {off}"), "holds the reservation");
        assert_eq!(fixture.state(), "0xa 0xb reserved", "{kind}");
        fixture.reap("a --key a");
        fixture.reap(&format!("a --key b {off}"));
        assert_eq!(fixture.state(), " free", "{kind}");
    }
    // All registrants hold this reservation.
    fixture.register("a", "a");
    fixture.register("b", "b");
    fixture.run("reserve b --key b --type we-ar").success();
    fixture.reap(&format!("a --key b {off}"));
    assert_eq!(fixture.state(), "0xa reserved");
}

#[test]
fn unusable_report_is_an_error() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.register("b", "b");
    fixture.report();
    let text = fs::read_to_string(fixture.path("report")).unwrap();
    let mut report: Value = serde_json::from_str(&text).unwrap();
    let time = report["time_us"].as_u64().unwrap();
    report["time_us"] = (time - 601_000_000).into();
    fs::write(fixture.path("old"), report.to_string()).unwrap();
    let path = Path::new("old");
    for (name, fragment) in [
        (path, "older than 10 minutes"),
        (Path::new("socket"), "cannot read the report"),
        (Path::new("luns/l/lun.json"), "not the JSON output"),
    ] {
        let run = fixture.run(&format!("orphans a --known {}", name.display()));
        run.expect_failure(1, &[fragment, "prhctl --json orphans"]);
    }
}
