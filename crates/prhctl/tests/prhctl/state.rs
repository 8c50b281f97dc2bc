// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subcommands that read the state of the real helper.

use std::path::Path;

use pr_testkit::{HelperProcess, eventually};
use serde_json::json;

use crate::demo::real_helper;
use crate::support::{Run, prhctl};

/// The real helper in a directory with a soft LUN that has the ports `a` and `b`.
fn helper(dir: &Path) -> HelperProcess {
    std::fs::create_dir(dir.join("luns")).unwrap();
    let line = "lun create luns/l --port a=sas,5001405000000001@1 --port b=sas,5001405000000002@2";
    Run::new(&mut prhctl(dir, line), "").success();
    let builder = HelperProcess::builder(real_helper()).socket(dir.join("socket"));
    let luns = dir.join("luns");
    builder.arg("--soft-luns").arg(luns).start().unwrap()
}

fn run(dir: &Path, arguments: &str) -> Run {
    Run::new(&mut prhctl(dir, &format!("-k socket {arguments}")), "")
}

#[test]
fn failover_is_in_the_state_of_the_helper() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let helper = helper(dir);
    for line in [
        "register luns/l/ports/a --key a",
        "register luns/l/ports/b --key b",
        "preempt luns/l/ports/b --key b --victim a --type we-ro --yes",
    ] {
        run(dir, line).success();
    }
    let document = run(dir, "--json history luns/l/ports/a").json();
    let records = document["records"].as_array().unwrap();
    let actions: Vec<_> = records.iter().map(|record| &record["action"]).collect();
    assert_eq!(actions, ["REGISTER", "REGISTER", "PREEMPT"], "{document}");
    let victim = &records[0]["client"];
    assert_eq!(records[2]["other"], *victim, "{document}");
    let text = run(dir, "history luns/l/ports/a").success();
    let effect = format!("GOOD; preempted {}\n", victim.as_str().unwrap());
    assert!(text.contains(&effect), "{text}");

    let document = run(dir, "--json disks").json();
    assert_eq!(document["disks"][0]["registrations"][0]["key"], "0xb");
    assert_eq!(document["disks"][0]["sharing_clients"], json!([]));
    let document = run(dir, "--json holders luns/l/ports/b").json();
    assert_eq!(
        document["registrants"][0]["names"],
        json!([records[1]["client"]])
    );

    let client = helper.client();
    // The helper notices later that the other clients have disconnected.
    let pids = json!([std::process::id()]);
    eventually("only this process is a client", || {
        let document = run(dir, "--json clients").json();
        let clients = document["clients"].as_array().unwrap().iter();
        let found: Vec<_> = clients.map(|client| client["pid"].clone()).collect();
        (json!(found) == pids).then_some(())
    });
    drop(client);
    run(dir, "history nonesuch").expect_failure(1, &["nonesuch: no disk and no client"]);
    Run::new(&mut prhctl(dir, "-k /dev/null clients"), "")
        .expect_failure(1, &["/dev/null: no helper listens on this socket"]);
}
