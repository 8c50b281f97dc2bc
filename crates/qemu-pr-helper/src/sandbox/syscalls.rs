//! The system calls that the helper makes while it serves, each with its reason.
//!
//! A test (`tests/sandbox/used.rs`) fails when one of them is not made by any of the things that the helper can do.

use libc::c_long;

/// A system call that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name, as strace has it.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: c_long,
    /// What the helper makes it for.
    pub why: &'static str,
    /// What its arguments have to be: all of one of these. Anything where there is none.
    pub only: &'static [&'static [(u8, Is)]],
    /// Whether every helper makes it, or only some.
    pub seen: Seen,
}

/// What an argument of a system call has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// This value, in 32 bits.
    Value(u32),
    /// No address.
    Null,
    /// The number of the process itself.
    ThisProcess,
    /// A word in which none of these bits are set.
    Without(u32),
    /// A word in which all of these bits are set.
    With(u32),
}

/// Where a system call can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In the ordinary run of things, on any machine.
    Always,
    /// In circumstances that a test cannot bring about everywhere: another C library or architecture, a
    /// multipath map, a crash.
    Sometimes,
}

const fn call(name: &'static str, number: c_long, why: &'static str) -> Call {
    Call {
        name,
        number,
        why,
        only: &[],
        seen: Seen::Always,
    }
}

impl Call {
    const fn only(self, only: &'static [&'static [(u8, Is)]]) -> Self {
        Self { only, ..self }
    }

    const fn sometimes(self) -> Self {
        Self {
            seen: Seen::Sometimes,
            ..self
        }
    }
}

const SG_IO: u32 = 0x2285;
const PROT_EXEC: u32 = libc::PROT_EXEC.cast_unsigned();
const AF_UNIX: u32 = libc::AF_UNIX.cast_unsigned();
const MESSAGES: u32 = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).cast_unsigned();
const SOL_SOCKET: u32 = libc::SOL_SOCKET.cast_unsigned();
const SO_PEERCRED: u32 = libc::SO_PEERCRED.cast_unsigned();
const SO_PEERPIDFD: u32 = libc::SO_PEERPIDFD.cast_unsigned();
const SO_SNDBUF: u32 = libc::SO_SNDBUF.cast_unsigned();
/// By its number of old and by that with 64-bit times (`include/uapi/asm-generic/socket.h`).
const SO_RCVTIMEO: [u32; 2] = [20, 66];
const PR_SET_NAME: u32 = libc::PR_SET_NAME.cast_unsigned();
const CLONE_THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();
const F_GETFL: u32 = libc::F_GETFL.cast_unsigned();
const F_GETFD: u32 = libc::F_GETFD.cast_unsigned();
const F_DUPFD_CLOEXEC: u32 = libc::F_DUPFD_CLOEXEC.cast_unsigned();
const O_PATH: u32 = libc::O_PATH.cast_unsigned();
const SIGABRT: u32 = libc::SIGABRT.cast_unsigned();

/// Those of every helper.
#[rustfmt::skip] // A line for each.
pub const SERVING: &[Call] = &[
    // Clients and their requests.
    call("accept4", libc::SYS_accept4, "takes in a client"),
    call("setsockopt", libc::SYS_setsockopt, "how long a read from a client waits, how much is kept for it").only(&[
        &[(1, Is::Value(SOL_SOCKET)), (2, Is::Value(SO_RCVTIMEO[0]))],
        &[(1, Is::Value(SOL_SOCKET)), (2, Is::Value(SO_RCVTIMEO[1]))],
        &[(1, Is::Value(SOL_SOCKET)), (2, Is::Value(SO_SNDBUF))],
    ]),
    call("getsockopt", libc::SYS_getsockopt, "which process a client is").only(&[
        &[(1, Is::Value(SOL_SOCKET)), (2, Is::Value(SO_PEERCRED))],
        &[(1, Is::Value(SOL_SOCKET)), (2, Is::Value(SO_PEERPIDFD))],
    ]),
    call("fstatfs", libc::SYS_fstatfs, "whether the kernel's process descriptors have unique numbers").sometimes(),
    call("recvmsg", libc::SYS_recvmsg, "reads requests, and a worker's report"),
    call("sendto", libc::SYS_sendto, "sends answers").only(&[&[(4, Is::Null)]]),
    call("sendmsg", libc::SYS_sendmsg, "hands a map to a worker").sometimes(),
    call("socketpair", libc::SYS_socketpair, "the way to a worker").only(&[&[(0, Is::Value(AF_UNIX)), (1, Is::Value(MESSAGES))]]).sometimes(),
    call("shutdown", libc::SYS_shutdown, "ends half a request that takes too long; hears clients out at the end"),
    call("epoll_ctl", libc::SYS_epoll_ctl, "waits for a client, or no more"),
    call("epoll_pwait", libc::SYS_epoll_pwait, "waits for clients"),
    call("timerfd_settime", libc::SYS_timerfd_settime, "looks for overdue requests, opens the door again"),
    call("close", libc::SYS_close, "a client's device, a client"),
    // Devices and their commands.
    call("ioctl", libc::SYS_ioctl, "sends the command").only(&[&[(1, Is::Value(SG_IO))]]),
    call("fstat", libc::SYS_fstat, "the kind of a soft LUN's file; of a directory, by the C library"),
    call("fcntl", libc::SYS_fcntl, "whether a descriptor can be used, and written to").only(&[
        &[(1, Is::Value(F_GETFL))],
        &[(1, Is::Value(F_GETFD))],
        &[(1, Is::Value(F_DUPFD_CLOEXEC))],
    ]),
    call("openat", libc::SYS_openat, "what sysfs says of a device; landlock says which files, but not with O_PATH").only(&[&[(2, Is::Without(O_PATH))]]),
    call("read", libc::SYS_read, "the same"),
    call("lseek", libc::SYS_lseek, "the same, by the standard library").sometimes(),
    call("statx", libc::SYS_statx, "which device a descriptor is, whether sysfs has a device"),
    call("newfstatat", libc::SYS_newfstatat, "the same, by the C library").sometimes(),
    call("readlinkat", libc::SYS_readlinkat, "the name of a file that is no device, for the log; an sg node's disk").sometimes(),
    // Only within the permitted set: a thread cannot gain a capability by it.
    call("capget", libc::SYS_capget, "the thread's capabilities, to restore them").sometimes(),
    call("capset", libc::SYS_capset, "asks the kernel as a client would whether a device covers its disk").sometimes(),
    // Threads.
    call("clone3", libc::SYS_clone3, "tried first, see `UNKNOWN`"),
    call("clone", libc::SYS_clone, "starts a thread, and no process").only(&[&[(0, Is::With(CLONE_THREAD))]]),
    call("set_robust_list", libc::SYS_set_robust_list, "a thread's start, by the C library"),
    call("rseq", libc::SYS_rseq, "the same"),
    call("rt_sigprocmask", libc::SYS_rt_sigprocmask, "the same"),
    call("sigaltstack", libc::SYS_sigaltstack, "the same, by the standard library"),
    call("sched_getaffinity", libc::SYS_sched_getaffinity, "the same"),
    call("gettid", libc::SYS_gettid, "the same; for traces"),
    call("prctl", libc::SYS_prctl, "a thread's name").only(&[&[(0, Is::Value(PR_SET_NAME))]]),
    call("futex", libc::SYS_futex, "waits for locks, wakes threads"),
    call("exit", libc::SYS_exit, "a thread's end"),
    // Memory: a page that can be run is not to be had.
    call("mmap", libc::SYS_mmap, "stacks, memory").only(&[&[(2, Is::Without(PROT_EXEC))]]),
    call("mprotect", libc::SYS_mprotect, "the page that guards a stack, memory").only(&[&[(2, Is::Without(PROT_EXEC))]]),
    call("munmap", libc::SYS_munmap, "gives memory back"),
    call("madvise", libc::SYS_madvise, "gives a stack back"),
    call("mremap", libc::SYS_mremap, "makes memory larger").sometimes(),
    call("brk", libc::SYS_brk, "memory").sometimes(),
    call("getrandom", libc::SYS_getrandom, "seeds of hash tables").sometimes(),
    // Log and trace.
    call("write", libc::SYS_write, "lines of the log, a trace"),
    call("ppoll", libc::SYS_ppoll, "whether a line can be written, whether a worker reports"),
    call("ftruncate", libc::SYS_ftruncate, "half a record that the disk had no room for").sometimes(),
    call("clock_gettime", libc::SYS_clock_gettime, "times, where the vDSO has no clock").sometimes(),
    // The end, by a signal that is read.
    call("clock_nanosleep", libc::SYS_clock_nanosleep, "waits for commands in progress").sometimes(),
    call("exit_group", libc::SYS_exit_group, "ends"),
    call("dup3", libc::SYS_dup3, "leaves the standard streams, as a daemon").sometimes(),
    call("getpid", libc::SYS_getpid, "ends for a bug, with a core").sometimes(),
    call("tgkill", libc::SYS_tgkill, "the same").only(&[&[(0, Is::ThisProcess), (2, Is::Value(SIGABRT))]]).sometimes(),
    call("rt_sigaction", libc::SYS_rt_sigaction, "the same").sometimes(),
    // What the kernel has a process call by itself.
    call("rt_sigreturn", libc::SYS_rt_sigreturn, "comes back from a signal's handler").sometimes(),
    call("restart_syscall", libc::SYS_restart_syscall, "goes on with a call after a stop").sometimes(),
];

/// Those that only this architecture still has.
#[rustfmt::skip] // A line for each.
#[cfg(target_arch = "x86_64")]
pub const OLD: &[Call] = &[
    call("epoll_wait", libc::SYS_epoll_wait, "waits for clients").sometimes(),
    call("poll", libc::SYS_poll, "whether a line can be written").sometimes(),
    call("readlink", libc::SYS_readlink, "the name of a file that is no device, for the log; an sg node's disk"),
    call("open", libc::SYS_open, "what sysfs says of a device").only(&[&[(1, Is::Without(O_PATH))]]).sometimes(),
    call("stat", libc::SYS_stat, "whether sysfs has a device").sometimes(),
    call("dup2", libc::SYS_dup2, "leaves the standard streams, as a daemon").sometimes(),
    call("nanosleep", libc::SYS_nanosleep, "waits for commands in progress").sometimes(),
];

/// Those that only this architecture still has.
#[cfg(not(target_arch = "x86_64"))]
pub const OLD: &[Call] = &[];

/// Those of a helper that has soft LUNs.
#[rustfmt::skip] // A line for each.
pub const SOFT_LUNS: &[Call] = &[
    call("flock", libc::SYS_flock, "one command at a time"),
    call("getdents64", libc::SYS_getdents64, "whether the directory can be read").sometimes(),
    call("fchmod", libc::SYS_fchmod, "a file that others may read"),
    call("fdatasync", libc::SYS_fdatasync, "APTPL: a registration that outlasts a loss of power"),
    call("fsync", libc::SYS_fsync, "APTPL: a registration that outlasts a loss of power").sometimes(),
    #[cfg(not(target_arch = "riscv64"))]
    call("renameat", libc::SYS_renameat, "a file is changed as a whole").sometimes(),
    call("renameat2", libc::SYS_renameat2, "the same").sometimes(),
    call("unlinkat", libc::SYS_unlinkat, "the new file of a change that did not end"),
];

/// Those of a helper that traces to syslog: a datagram has an address.
#[rustfmt::skip] // A line for each.
pub const SYSLOG: &[Call] = &[
    call("sendto", libc::SYS_sendto, "sends answers, and lines to syslog"),
];

/// What only an intruder calls: it ends the process at once, where everything else that is not allowed fails with
/// `EPERM`, as a new version of a library could call it.
pub const HOSTILE: &[(&str, c_long)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("bpf", libc::SYS_bpf),
    ("mount", libc::SYS_mount),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("io_uring_setup", libc::SYS_io_uring_setup),
];

/// What the helper is told the kernel does not know (`ENOSYS`): the C library does it in an older way then, of
/// which the arguments can be looked at.
pub const UNKNOWN: &[(&str, c_long)] = &[("clone3", libc::SYS_clone3)];
