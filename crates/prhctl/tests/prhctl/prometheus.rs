// SPDX-License-Identifier: MIT OR Apache-2.0

//! The metrics, alert rules and dashboard with programs of Debian's package `prometheus`.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use pr_testkit::{eventually, process, skip, table};
use serde_json::Value;

use crate::exporter::Running;
use crate::state_host::{StateHost, busy_document};
use crate::support::Run;

const ALERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../packaging/prometheus/alerts.yml"
);
const TESTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../packaging/prometheus/alerts_test.yml"
);
const DASHBOARD: &str = include_str!("../../../../packaging/prometheus/dashboard.json");

/// Returns a command for a program of Debian's package `prometheus`. Without it, skips the test.
fn tool(name: &str) -> Option<Command> {
    let path = process::find(name);
    if path.is_none() {
        skip(&format!("{name} is not installed"));
    }
    path.map(Command::new)
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let Some(mut promtool) = tool("promtool") else {
        return;
    };
    let file = host.path().join("metrics");
    Run::new(&mut host.prhctl("exporter --textfile metrics"), "").success();
    promtool
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = promtool.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{text}");
}

/// Returns the values after `key` in the lines of a YAML file.
fn values<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    lines.filter_map(|line| line.strip_prefix(key)).collect()
}

#[test]
fn alerts_fire_as_their_tests_expect() {
    let Some(mut promtool) = tool("promtool") else {
        return;
    };
    process::output(promtool.args(["check", "rules", ALERTS])).unwrap();
    let Some(mut promtool) = tool("promtool") else {
        return;
    };
    process::output(promtool.args(["test", "rules", TESTS])).unwrap();
}

#[test]
fn every_alert_is_tested_and_documented() {
    let (alerts, tests) = (fs::read_to_string(ALERTS), fs::read_to_string(TESTS));
    let (alerts, tests) = (alerts.unwrap(), tests.unwrap());
    let alerts = values(&alerts, "alert: ");
    let tested = values(&tests, "alertname: ");
    table::assert_same(("alerts.yml", &alerts), ("alerts_test.yml", &tested));
    let document = include_str!("../../../../docs/install.md");
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `PrHelper"));
    let names = rows.map(|row| format!("PrHelper{}", row.split_once('`').unwrap().0));
    let alerts = alerts.iter().map(ToString::to_string);
    table::assert_same(("alerts.yml", alerts), ("docs/install.md", names));
}

/// Returns the response of Prometheus' HTTP API; `None` while Prometheus starts.
fn get(prometheus: &Running, path: &str) -> Option<Value> {
    let (status, head, body) = prometheus.request("GET", path, "*/*");
    if status == 503 {
        return None;
    }
    assert_eq!(status, 200, "{path}: {head}\n{body}");
    let response: Value = serde_json::from_str(&body).unwrap();
    Some(response["data"].clone())
}

/// Starts a Prometheus in `host` that reads the metrics of `exporter` each second.
fn start_prometheus(host: &StateHost, exporter: &Running) -> Option<Running> {
    let mut prometheus = tool("prometheus")?;
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{ALERTS}]\n\
         scrape_configs:\n\
         - {{job_name: pr, static_configs: [{{targets: [\"{}\"]}}]}}\n",
        exporter.address
    );
    let file = host.path().join("prometheus.yml");
    fs::write(&file, configuration).unwrap();
    prometheus
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            host.path().join("tsdb").display()
        ))
        .arg("--web.listen-address=127.0.0.1:0");
    let prometheus = Running::start(&mut prometheus, "msg=\"Listening on\" address=");
    Some(prometheus)
}

/// Returns the expressions of all panels, with values in place of Grafana's variables.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    let expressions = expressions.map(|text| {
        let text = text.replace("$__rate_interval", "1m");
        let text = ["$instance", "$client", "$disk"]
            .iter()
            .fold(text, |text, variable| text.replace(variable, ".*"));
        assert!(!text.contains('$'), "{text}");
        text
    });
    expressions.collect()
}

/// Encodes all characters of a query but letters and digits.
fn percent_encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn expect_results(prometheus: &Running, expression: &str) {
    let path = format!("/api/v1/query?query={}", percent_encoded(expression));
    eventually(expression, || {
        let data = get(prometheus, &path)?;
        let results = data["result"].as_array().unwrap();
        (!results.is_empty()).then_some(())
    });
}

#[test]
fn queries_of_the_dashboard_and_the_alerts_have_results() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let exporter = Running::exporter(&host);
    let Some(prometheus) = start_prometheus(&host, &exporter) else {
        return;
    };
    let expressions = expressions();
    assert!(expressions.len() > 15, "{expressions:#?}");
    for expression in expressions {
        expect_results(&prometheus, &expression);
    }
    let rules = get(&prometheus, "/api/v1/rules").unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 8);
    for rule in rules {
        // The helper responds, and the other rules apply to its document.
        if rule["name"] != "PrHelperNotResponding" {
            expect_results(&prometheus, rule["query"].as_str().unwrap());
        }
    }
}
