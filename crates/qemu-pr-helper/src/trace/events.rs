//! The events, all of them: name, arguments, text. Code, `-T help` and the definitions for readers of binary
//! traces are made from this table.
//!
//! Names and arguments are for scripts: an event may come, but none changes or goes. Clients are
//! called by the number that the log has for them; devices by `major:minor`, or what else the log calls
//! them. Statuses and sense are those that the client gets; sense is key, code and qualifier, a byte each,
//! and 0 without sense. Times are in microseconds.

use super::Event;
use super::argument::{Address, Argument, Parameter};
#[cfg(feature = "usdt")]
use super::probes::{Lazy, Words};

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $event:ident($($name:ident: $kind:ty),*) $format:literal;)+) => {
        /// Their places in the table.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Id {
            $($event,)+
        }

        $(
            $(#[doc = $doc])+
            pub mod $event {
                use super::*;

                /// The event itself.
                pub static EVENT: Event = Event::new(
                    Id::$event as u64,
                    stringify!($event),
                    &[$(Parameter { name: stringify!($name), kind: <$kind as Argument>::KIND }),*],
                    $format,
                );

                /// Reports it, whether or not it is enabled.
                // As many as the event has.
                #[allow(clippy::too_many_arguments)]
                #[cold]
                pub fn emit($($name: $kind),*) {
                    EVENT.emit(&[$(Argument::value(&$name)),*], format_args!($format));
                }

                /// Its arguments as a static probe has them.
                #[cfg(feature = "usdt")]
                #[allow(clippy::too_many_arguments)]
                #[cold]
                #[must_use]
                pub fn words($($name: $kind),*) -> Words {
                    Words::of(&[$(Argument::value(&$name)),*])
                }

                /// A static probe. Its words are made when somebody is attached to it.
                #[cfg(feature = "usdt")]
                #[inline]
                // One without arguments has no words.
                #[allow(unused_mut, unused_variables)]
                pub fn probe(words: impl FnOnce() -> Words) {
                    let mut words = Lazy::new(words);
                    ::probe::probe_lazy!(
                        qemu_pr_helper, $event $(, words.next(stringify!($name)))*
                    );
                }
            }
        )+

        /// Every event, in the order in which `-T help` lists them.
        pub static ALL: &[&Event] = &[$(&$event::EVENT),+];
    };
}

events! {
    // These five are QEMU's, with QEMU's arguments.
    /// The socket listens, with room for so many who wait to be accepted.
    socket_listen(num: i32) "backlog: {num}";
    /// The socket listens.
    qio_channel_socket_listen_complete(ioc: Address, fd: i32)
        "Socket listen complete ioc={ioc:p} fd={fd}";
    /// Somebody is at the door.
    qio_channel_socket_accept(ioc: Address) "Socket accept start ioc={ioc:p}";
    /// Nobody could be let in.
    qio_channel_socket_accept_fail(ioc: Address) "Socket accept fail ioc={ioc:p}";
    /// A client is in; `cioc` is its number.
    qio_channel_socket_accept_complete(ioc: Address, cioc: Address, fd: i32)
        "Socket accept complete ioc={ioc:p} cioc={cioc:p} fd={fd}";

    /// Privileges are given up: who the process is now, and its capabilities, a bit each.
    pr_helper_privileges_dropped(uid: u32, gid: u32, capabilities: u64)
        "uid={uid} gid={gid} capabilities={capabilities:#x}";
    /// A signal asks the helper to end.
    pr_helper_stopping(signal: &str) "signal={signal}";
    /// The helper has stopped serving; so many clients get no answer.
    pr_helper_stopped(unanswered: u64) "unanswered={unanswered}";

    /// A client has connected, and is greeted.
    pr_helper_client_connected(client: u64, pid: i32, uid: u32)
        "client={client} pid={pid} uid={uid}";
    /// A client is not let in, and why.
    pr_helper_client_refused(client: u64, pid: i32, uid: u32, reason: &str)
        "client={client} pid={pid} uid={uid} reason='{reason}'";
    /// The client has answered the greeting: requests can follow.
    pr_helper_client_negotiated(client: u64, features: u32)
        "client={client} features={features:#x}";
    /// A connection is over, and why; a broken protocol is a reason too.
    pr_helper_client_disconnected(client: u64, pid: i32, uid: u32, reason: &str)
        "client={client} pid={pid} uid={uid} reason='{reason}'";
    /// No more clients are accepted for now, and why.
    pr_helper_accept_paused(reason: &str) "reason='{reason}'";
    /// Clients are accepted again.
    pr_helper_accept_resumed() "";

    /// A PERSISTENT RESERVE IN is complete and goes to its device.
    pr_helper_in_begin(client: u64, fd: i32, device: &str, action: &str, length: u32)
        "client={client} fd={fd} device='{device}' action='{action}' length={length}";
    /// A PERSISTENT RESERVE IN is answered, with so many bytes.
    pr_helper_in_end(
        client: u64, pid: i32, device: &str, action: &str, length: u32, status: u8, sense: u32,
        us: u64
    )
        "client={client} pid={pid} device='{device}' action='{action}' length={length} \
         status={status:#04x} sense={sense:#08x} us={us}";
    /// A PERSISTENT RESERVE OUT is complete and goes to its device: scope and type in one byte, and the two
    /// keys of its parameter list.
    pr_helper_out_begin(
        client: u64, fd: i32, device: &str, action: &str, scope_type: u8, key: u64, sa_key: u64,
        length: u32
    )
        "client={client} fd={fd} device='{device}' action='{action}' type={scope_type:#04x} key={key:#x} \
         sa_key={sa_key:#x} length={length}";
    /// A PERSISTENT RESERVE OUT is answered: everything about it in one line.
    pr_helper_out_end(
        client: u64, pid: i32, device: &str, action: &str, scope_type: u8, key: u64, sa_key: u64,
        status: u8, sense: u32, us: u64
    )
        "client={client} pid={pid} device='{device}' action='{action}' type={scope_type:#04x} \
         key={key:#x} sa_key={sa_key:#x} status={status:#04x} sense={sense:#08x} us={us}";
    /// A command is answered by the helper itself, and why no device was asked.
    pr_helper_request_refused(client: u64, device: &str, reason: &str)
        "client={client} device='{device}' reason='{reason}'";

    /// A command goes to the kernel (`SG_IO`), which is to give it up after so many milliseconds.
    pr_helper_sg_begin(fd: i32, opcode: u8, action: u8, timeout: u32)
        "fd={fd} opcode={opcode:#04x} action={action:#04x} timeout={timeout}";
    /// The kernel is done with it: errno, or the device's status and the kernel's own; `residual` bytes were
    /// not transferred.
    pr_helper_sg_end(
        fd: i32, error: i32, status: u8, host_status: u16, driver_status: u16, residual: u32,
        us: u64
    )
        "fd={fd} errno={error} status={status:#04x} host_status={host_status:#x} \
         driver_status={driver_status:#x} residual={residual} us={us}";

    /// A command on a multipath map has waited for those before it; or in vain.
    pr_helper_map_turn(client: u64, map: &str, taken: u8, us: u64)
        "client={client} map='{map}' taken={taken} us={us}";
    /// A worker is asked for.
    pr_helper_worker_begin(client: u64, map: &str, action: &str)
        "client={client} map='{map}' action='{action}'";
    /// The worker has reported; or why it has not.
    pr_helper_worker_end(client: u64, map: &str, result: &str, us: u64)
        "client={client} map='{map}' result='{result}' us={us}";
    /// What the worker has sent by a path, and what came of it: `answered`, `unsent` or `lost`.
    pr_helper_path(
        client: u64, map: &str, path: &str, opcode: u8, action: u8, result: &str, status: u8,
        sense: u32, us: u64
    )
        "client={client} map='{map}' path='{path}' opcode={opcode:#04x} action={action:#04x} \
         result={result} status={status:#04x} sense={sense:#08x} us={us}";
    /// What the worker has told multipathd, and what it said.
    pr_helper_multipathd(client: u64, map: &str, request: &str, reply: &str, us: u64)
        "client={client} map='{map}' request='{request}' reply='{reply}' us={us}";

    /// A command goes to a soft LUN.
    pr_helper_soft_lun_begin(client: u64, lun: &str, port: &str)
        "client={client} lun='{lun}' port='{port}'";
    /// The soft LUN has answered.
    pr_helper_soft_lun_end(client: u64, lun: &str, port: &str, status: u8, us: u64)
        "client={client} lun='{lun}' port='{port}' status={status:#04x} us={us}";
    /// The command has changed the soft LUN: its PRgeneration, how many nexuses are registered, and the
    /// reservation's type with its holder's key; 0 without one, and where all registrants hold it.
    pr_helper_soft_lun_changed(
        client: u64, lun: &str, port: &str, generation: u32, registered: u32, scope_type: u8, key: u64
    )
        "client={client} lun='{lun}' port='{port}' generation={generation} registered={registered} \
         type={scope_type:#04x} key={key:#x}";

    /// A thread was started, because all others may wait for devices.
    pr_helper_thread_started(others: u64) "others={others}";
    /// A thread has ended, because there was nothing to do.
    pr_helper_thread_ended(others: u64) "others={others}";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_in_qemus_style() {
        let names: BTreeSet<_> = ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn an_event_is_found_by_its_number() {
        for (place, event) in (0..).zip(ALL) {
            assert_eq!(event.id, place, "{}", event.name);
        }
    }

    /// More than ten QEMU's scripts refuse to read (`scripts/tracetool`).
    #[test]
    fn no_event_has_too_many_arguments() {
        for event in ALL {
            assert!(event.parameters.len() <= 10, "{}", event.name);
        }
    }
}
