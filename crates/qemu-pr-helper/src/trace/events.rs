// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of events: names, parameters and texts. The code, `-T help` and the definitions for
//! readers of binary traces are generated from it.
//!
//! Scripts depend on names and parameters: events can be added, but not changed or removed. A
//! client is identified by the number that it has in the log, a device by `major:minor` or another
//! name from the log. Status and sense are those that the client receives. `sense` consists of
//! sense key, additional sense code and qualifier, one byte each, and is 0 without sense data. `us`
//! is a time in microseconds.

#[cfg(feature = "usdt")]
use std::cell::LazyCell;
use std::sync::atomic::AtomicBool;

use super::TraceEvent;
use super::argument::{Argument, ObjectId, Parameter};
#[cfg(feature = "usdt")]
use super::probes::ProbeArgs;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $event:ident($($name:ident: $kind:ty),*) $format:literal;)+) => {
        /// Indexes of the events in the table.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Index {
            $($event,)+
        }

        $(
            const _: () = assert!(
                !<[&str]>::is_empty(&[$($doc),*]),
                concat!("no doc comment: ", stringify!($event))
            );

            $(#[doc = $doc])*
            pub(crate) mod $event {
                use super::*;

                pub(crate) static EVENT: TraceEvent = TraceEvent {
                    id: Index::$event as u64,
                    name: stringify!($event),
                    parameters: &[
                        $(Parameter { name: stringify!($name), kind: <$kind as Argument>::KIND }),*
                    ],
                    format: $format,
                    enabled: AtomicBool::new(false),
                };

                /// Reports the event, even if it is disabled.
                #[allow(clippy::too_many_arguments)]
                #[cold]
                pub(crate) fn emit($($name: $kind),*) {
                    EVENT.emit(&[$(Argument::value(&$name)),*], format_args!($format));
                }

                /// Converts the arguments for the static probe.
                #[cfg(feature = "usdt")]
                #[allow(clippy::too_many_arguments)]
                #[cold]
                pub(crate) fn probe_args($($name: $kind),*) -> ProbeArgs {
                    ProbeArgs::new(&[$(Argument::value(&$name)),*])
                }

                /// Fires the static probe. Calls `args` only while a tracer is attached.
                #[cfg(feature = "usdt")]
                #[inline]
                // A probe without arguments does not use `args`.
                #[allow(unused_variables)]
                pub(crate) fn probe(args: impl FnOnce() -> ProbeArgs) {
                    let args = LazyCell::new(args);
                    ::probe::probe_lazy!(
                        qemu_pr_helper, $event $(, args.next(stringify!($name)))*
                    );
                }
            }
        )+

        /// All events, in the order in which `-T help` lists them.
        pub static ALL: &[&TraceEvent] = &[$(&$event::EVENT),+];
    };
}

events! {
    // These five events are QEMU's, with QEMU's parameters.
    /// The socket listens with a backlog of `num` connections.
    socket_listen(num: i32) "backlog: {num}";
    /// The socket listens.
    qio_channel_socket_listen_complete(ioc: ObjectId, fd: i32)
        "Socket listen complete ioc={ioc:p} fd={fd}";
    /// The helper accepts a connection.
    qio_channel_socket_accept(ioc: ObjectId) "Socket accept start ioc={ioc:p}";
    /// The connection was not accepted: accept(2) failed.
    qio_channel_socket_accept_fail(ioc: ObjectId) "Socket accept fail ioc={ioc:p}";
    /// The connection was accepted; `cioc` is the number of the client.
    qio_channel_socket_accept_complete(ioc: ObjectId, cioc: ObjectId, fd: i32)
        "Socket accept complete ioc={ioc:p} cioc={cioc:p} fd={fd}";

    /// Privileges were dropped. The event has the new user, group and capabilities (a bit mask).
    pr_helper_privileges_dropped(uid: u32, gid: u32, capabilities: u64)
        "uid={uid} gid={gid} capabilities={capabilities:#x}";
    /// The helper stops, because it received a signal or its broker exited.
    pr_helper_stopping(signal: &str) "signal={signal}";
    /// The helper has stopped; `unanswered` is the number of clients that get no answer.
    pr_helper_stopped(unanswered: u64) "unanswered={unanswered}";

    /// A client has connected, and the helper has sent its greeting.
    pr_helper_client_connected(client: u64, pid: i32, uid: u32)
        "client={client} pid={pid} uid={uid}";
    /// A client was rejected for this reason.
    pr_helper_client_refused(client: u64, pid: i32, uid: u32, reason: &str)
        "client={client} pid={pid} uid={uid} reason='{reason}'";
    /// The client has answered the greeting, so requests can follow.
    pr_helper_client_negotiated(client: u64, features: u32)
        "client={client} features={features:#x}";
    /// A connection was closed for this reason, which can be a protocol violation.
    pr_helper_client_disconnected(client: u64, pid: i32, uid: u32, reason: &str)
        "client={client} pid={pid} uid={uid} reason='{reason}'";
    /// The helper stops accepting clients for a while, for this reason.
    pr_helper_accept_paused(reason: &str) "reason='{reason}'";
    /// The helper accepts clients again.
    pr_helper_accept_resumed() "";

    /// A PERSISTENT RESERVE IN was received and goes to its device. `length` is its allocation
    /// length.
    pr_helper_in_begin(client: u64, fd: i32, device: &str, action: &str, length: u32)
        "client={client} fd={fd} device='{device}' action='{action}' length={length}";
    /// A PERSISTENT RESERVE IN was answered with `length` bytes.
    pr_helper_in_end(
        client: u64, pid: i32, device: &str, action: &str, length: u32, status: u8, sense: u32,
        us: u64
    )
        "client={client} pid={pid} device='{device}' action='{action}' length={length} \
         status={status:#04x} sense={sense:#08x} us={us}";
    /// A PERSISTENT RESERVE OUT or CLEANUP was received and goes to its device. `scope_type` has
    /// the scope and the type in one byte, `key` and `sa_key` are the keys in the parameter list.
    pr_helper_out_begin(
        client: u64, fd: i32, device: &str, action: &str, scope_type: u8, key: u64, sa_key: u64,
        length: u32
    )
        "client={client} fd={fd} device='{device}' action='{action}' type={scope_type:#04x} \
         key={key:#x} sa_key={sa_key:#x} length={length}";
    /// A PERSISTENT RESERVE OUT or CLEANUP was answered. The event has everything about it.
    pr_helper_out_end(
        client: u64, pid: i32, device: &str, action: &str, scope_type: u8, key: u64, sa_key: u64,
        status: u8, sense: u32, us: u64
    )
        "client={client} pid={pid} device='{device}' action='{action}' type={scope_type:#04x} \
         key={key:#x} sa_key={sa_key:#x} status={status:#04x} sense={sense:#08x} us={us}";
    /// The helper answered a command without sending it to a device, for this reason.
    pr_helper_request_refused(client: u64, device: &str, reason: &str)
        "client={client} device='{device}' reason='{reason}'";

    /// A command goes to the kernel (`SG_IO`) with a timeout in milliseconds.
    pr_helper_sg_begin(fd: i32, opcode: u8, action: u8, timeout: u32)
        "fd={fd} opcode={opcode:#04x} action={action:#04x} timeout={timeout}";
    /// The kernel has completed the command. The event has an errno, or the statuses of device,
    /// host and driver; `residual` bytes were not transferred.
    pr_helper_sg_end(
        fd: i32, error: i32, status: u8, host_status: u16, driver_status: u16, residual: u32,
        us: u64
    )
        "fd={fd} errno={error} status={status:#04x} host_status={host_status:#x} \
         driver_status={driver_status:#x} residual={residual} us={us}";

    /// A command has waited for earlier commands on its multipath map. `taken` is 1 if it can run,
    /// and 0 if the wait timed out.
    pr_helper_map_turn(client: u64, map: &str, taken: u8, us: u64)
        "client={client} map='{map}' taken={taken} us={us}";
    /// The helper takes an idle worker process for a command, or requests one.
    pr_helper_worker_begin(client: u64, map: &str, action: &str)
        "client={client} map='{map}' action='{action}'";
    /// The worker process has `reported`, or failed for the reason in `result`.
    pr_helper_worker_end(client: u64, map: &str, result: &str, us: u64)
        "client={client} map='{map}' result='{result}' us={us}";
    /// A command was sent through a path, or to the map itself (`map`), and was `answered`,
    /// `unsent` or `lost`.
    pr_helper_path(
        client: u64, map: &str, path: &str, opcode: u8, action: u8, result: &str, status: u8,
        sense: u32, us: u64
    )
        "client={client} map='{map}' path='{path}' opcode={opcode:#04x} action={action:#04x} \
         result={result} status={status:#04x} sense={sense:#08x} us={us}";
    /// The worker sent a request to multipathd and received a reply. The reply `(sent later)`
    /// stands for a request that the guest does not wait for.
    pr_helper_multipathd(client: u64, map: &str, request: &str, reply: &str, us: u64)
        "client={client} map='{map}' request='{request}' reply='{reply}' us={us}";

    /// A command goes to a soft LUN.
    pr_helper_soft_lun_begin(client: u64, lun: &str, port: &str)
        "client={client} lun='{lun}' port='{port}'";
    /// The soft LUN has answered a command.
    pr_helper_soft_lun_end(client: u64, lun: &str, port: &str, status: u8, us: u64)
        "client={client} lun='{lun}' port='{port}' status={status:#04x} us={us}";
    /// A command has changed the soft LUN. The event has PRgeneration, the number of registered
    /// nexuses, and the type of the reservation and the key of its holder. The type is 0 without a
    /// reservation, the key is also 0 if all registrants hold it.
    pr_helper_soft_lun_changed(
        client: u64, lun: &str, port: &str, generation: u32, registered: u32, scope_type: u8,
        key: u64
    )
        "client={client} lun='{lun}' port='{port}' generation={generation} registered={registered} \
         type={scope_type:#04x} key={key:#x}";

    /// A worker thread was started, because all `others` can be waiting for devices.
    pr_helper_thread_started(others: u64) "others={others}";
    /// A worker thread has exited, because it was idle.
    pr_helper_thread_ended(others: u64) "others={others}";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn event_names_are_unique_and_snake_case() {
        let names: BTreeSet<_> = ALL.iter().map(|event| event.name()).collect();
        for name in names {
            let events = ALL.iter().filter(|event| event.name() == name);
            assert_eq!(events.count(), 1, "{name}");
            let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(name.bytes().all(is_valid), "{name}");
        }
    }

    #[test]
    fn event_id_is_its_index() {
        for (index, event) in (0..).zip(ALL) {
            assert_eq!(event.id, index, "{}", event.name);
        }
    }

    /// `scripts/tracetool` of QEMU rejects events with more than ten arguments.
    #[test]
    fn event_has_at_most_ten_parameters() {
        for event in ALL {
            assert!(event.parameters.len() <= 10, "{}", event.name);
        }
    }
}
