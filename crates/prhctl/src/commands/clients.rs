// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl clients`: the processes that are connected to the helpers of this host.

use anstyle::Style;
use clap::Args;
use helper_state::{Client, CommandInProgress, Vm};

use super::Subcommand;
use crate::console::{PLAIN, REJECTED, table_or_cells};
use crate::context::{Context, HelperArgs};
use crate::exit::Exit;
use crate::output::json::{Json, ToJson, object};
use crate::output::text::ToText;
use crate::state::HelperStates;
use crate::time::duration;

pub(crate) const HELP: &str = "\
List the virtual machines and other processes that are connected to the
helpers of this host, with the command that each one waits for.

Names of virtual machines are those of libvirt, KubeVirt, Proxmox VE or QEMU's
-name. The names come from the processes themselves and can be false.

Sends nothing to a disk. Only root and the helper's user can read the state of
a helper. QEMU's own helper has none.";
pub(crate) const EXAMPLES: &str = "\
EXAMPLES
  prhctl clients
  prhctl --json clients | jq -r '.clients[] | select(.command) | .name'

Exit status 0, or 1 if the state of no helper can be read.";

/// Arguments of the subcommand.
#[derive(Debug, Args)]
#[command(
    about = "List the virtual machines that are connected to the helpers",
    long_about = HELP, after_long_help = EXAMPLES
)]
pub(crate) struct ClientsArgs {
    #[command(flatten)]
    helper: HelperArgs,
}

impl Subcommand for ClientsArgs {
    fn run(&self, context: &Context) -> Exit {
        context.finish(context.states(&self.helper).map(ClientList))
    }
}

/// The clients of helpers.
#[derive(Debug)]
struct ClientList(HelperStates);

impl ToText for ClientList {
    fn to_text(&self) -> String {
        let rows: Vec<_> = self
            .0
            .documents()
            .flat_map(|(process, state)| {
                let clients = state.clients.iter();
                clients.map(move |client| (process.pid, state.time_us, client))
            })
            .map(|(helper, now, client)| row(self.0.has_several().then_some(helper), now, client))
            .collect();
        if rows.is_empty() {
            return "no clients\n".to_owned();
        }
        let mut header = vec![
            "ID",
            "NAME",
            "PID",
            "USER",
            "UNIT",
            "FOR",
            "COMMANDS",
            "WAITS FOR",
        ];
        if self.0.has_several() {
            header.insert(0, "HELPER");
        }
        table_or_cells(&header, rows)
    }
}

/// Returns the row of a client, with the process ID of its helper if there are several.
fn row(helper: Option<u32>, now: u64, client: &Client) -> (Style, Vec<String>) {
    let dash = || "-".to_owned();
    let process = &client.process;
    let command = client.command.as_ref().map(|command| {
        let CommandInProgress {
            device,
            action,
            age_us,
        } = command;
        format!("{action} on {device}, {}", duration(*age_us))
    });
    let style = if command.is_some() { REJECTED } else { PLAIN };
    let mut cells = vec![
        client.id.to_string(),
        process.name.clone(),
        match process.pid {
            0 => dash(),
            pid => pid.to_string(),
        },
        process.uid.to_string(),
        process.unit.clone().unwrap_or_else(dash),
        duration(now.saturating_sub(client.connected_us)),
        client.commands.to_string(),
        command.unwrap_or_else(dash),
    ];
    if let Some(helper) = helper {
        cells.insert(0, helper.to_string());
    }
    (style, cells)
}

impl ToJson for ClientList {
    fn to_json(&self) -> Json {
        let clients = self.0.documents().flat_map(|(process, state)| {
            let clients = state.clients.iter();
            clients.map(|client| client_json(process.pid, client))
        });
        object! { "clients": clients.collect::<Json>(), "helpers": self.0.to_json() }
    }
}

fn client_json(helper: u32, client: &Client) -> Json {
    let process = &client.process;
    object! {
        "helper": helper,
        "id": client.id,
        "name": &process.name,
        "pid": u32::try_from(process.pid).ok().filter(|pid| *pid != 0),
        "uid": process.uid,
        "unit": process.unit.as_ref(),
        "vm": process.vm.as_ref().map(ToJson::to_json),
        "connected_us": client.connected_us,
        "commands": client.commands,
        "command": client.command.as_ref().map(ToJson::to_json),
    }
}

impl ToJson for Vm {
    fn to_json(&self) -> Json {
        object! { "name": &self.name, "uuid": self.uuid.as_ref(), "manager": &self.manager }
    }
}

impl ToJson for CommandInProgress {
    fn to_json(&self) -> Json {
        object! { "device": &self.device, "action": &self.action, "age_us": self.age_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{check_members, client, document, plain_text, states};

    fn text(states: HelperStates) -> String {
        plain_text(&ClientList(states))
    }

    #[test]
    fn clients_are_listed_with_their_commands() {
        let mut state = document();
        let mut waiting = client(2, "node2");
        waiting.process.unit = None;
        waiting.process.pid = 0;
        waiting.command = Some(CommandInProgress {
            device: "8:0".to_owned(),
            action: "PREEMPT AND ABORT".to_owned(),
            age_us: 3_200_000,
        });
        state.clients = vec![client(1, "node1"), waiting];
        let expected = " ID  NAME   PID   USER  UNIT        FOR    COMMANDS  WAITS FOR
 1   node1  1001  107   vm-1.scope  1h 1m  7         -
 2   node2  -     107   -           1h 2m  7         PREEMPT AND ABORT on 8:0, 3s
";
        assert_eq!(text(states([state])), expected);
    }

    #[test]
    fn helper_is_named_if_there_are_several() {
        let mut state = document();
        state.clients = vec![client(1, "node1")];
        let text = text(states([state.clone(), state]));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with(" HELPER  ID  NAME"), "{text}");
        assert!(lines[1].starts_with(" 100     1   node1"), "{text}");
        assert!(lines[2].starts_with(" 101     1   node1"), "{text}");
    }

    #[test]
    fn json_members_are_documented() {
        let mut state = document();
        let mut client = client(1, "node1");
        client.command = Some(CommandInProgress {
            device: "8:0".to_owned(),
            action: "CLEAR".to_owned(),
            age_us: 1,
        });
        state.clients = vec![client];
        check_members(&ClientList(states([state])));
    }

    #[test]
    fn helper_without_clients_is_no_error() {
        assert_eq!(text(states([document()])), "no clients\n");
    }
}
