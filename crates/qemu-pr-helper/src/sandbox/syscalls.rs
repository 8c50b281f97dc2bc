// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls that the helper makes while it serves, each with its purpose.
//!
//! `tests/sandbox/used.rs` fails if the helper makes a system call that is not listed, or never
//! makes one that is listed as [`TestCoverage::Always`].

use ArgMatch::{BitsClear, BitsSet, Equals, Null, OwnPid};
use libc::{
    AF_UNIX, CLONE_THREAD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, O_PATH, PR_SET_NAME, PROT_EXEC,
    SIGABRT, SO_PEERCRED, SO_PEERPIDFD, SO_SNDBUF, SOL_SOCKET, c_int, c_long,
};

/// Rule that allows a system call.
#[derive(Clone, Copy, Debug)]
pub struct SyscallRule {
    /// Name, as strace(1) prints it.
    pub name: &'static str,
    /// Number on this architecture.
    pub number: c_long,
    /// Purpose of the call.
    pub purpose: &'static str,
    /// Alternatives of conditions on arguments, by argument index. The call is allowed if all
    /// conditions of one alternative are met. Without alternatives, any arguments are allowed.
    pub args: &'static [&'static [(u8, ArgMatch)]],
    /// Expectation of the test.
    pub coverage: TestCoverage,
}

/// Condition on an argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgMatch {
    /// The low 32 bits have this value.
    Equals(c_int),
    /// The argument is a null pointer.
    Null,
    /// The argument is the process ID of the helper.
    OwnPid,
    /// None of these bits is set.
    BitsClear(c_int),
    /// All of these bits are set.
    BitsSet(c_int),
}

/// Conditions under which the test sees a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestCoverage {
    /// On every machine.
    Always,
    /// Only in circumstances that the test cannot create everywhere: another C library or
    /// architecture, a multipath map, a crash.
    Sometimes,
}

const fn used(name: &'static str, number: c_long, purpose: &'static str) -> SyscallRule {
    SyscallRule {
        name,
        number,
        purpose,
        args: &[],
        coverage: TestCoverage::Always,
    }
}

const fn rare(name: &'static str, number: c_long, purpose: &'static str) -> SyscallRule {
    SyscallRule {
        coverage: TestCoverage::Sometimes,
        ..used(name, number, purpose)
    }
}

impl SyscallRule {
    const fn only(self, args: &'static [&'static [(u8, ArgMatch)]]) -> Self {
        Self { args, ..self }
    }
}

const SG_IO: c_int = 0x2285;
const SEQPACKET: c_int = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
/// The old option, and the one with 64-bit times (`include/uapi/asm-generic/socket.h`).
const SO_RCVTIMEO: [c_int; 2] = [20, 66];

/// System calls of every helper.
#[rustfmt::skip] // One line for each.
pub const BASE: &[SyscallRule] = &[
    // Clients and their requests.
    used("accept4", libc::SYS_accept4, "accept a client"),
    used("setsockopt", libc::SYS_setsockopt, "receive timeout and send buffer of a client").only(&[
        &[(1, Equals(SOL_SOCKET)), (2, Equals(SO_RCVTIMEO[0]))],
        &[(1, Equals(SOL_SOCKET)), (2, Equals(SO_RCVTIMEO[1]))],
        &[(1, Equals(SOL_SOCKET)), (2, Equals(SO_SNDBUF))],
    ]),
    used("getsockopt", libc::SYS_getsockopt, "identify the process of a client").only(&[
        &[(1, Equals(SOL_SOCKET)), (2, Equals(SO_PEERCRED))],
        &[(1, Equals(SOL_SOCKET)), (2, Equals(SO_PEERPIDFD))],
    ]),
    rare("fstatfs", libc::SYS_fstatfs, "check that pidfds have unique inode numbers"),
    used("recvmsg", libc::SYS_recvmsg, "read requests, and the reply of a worker or resolver"),
    used("sendto", libc::SYS_sendto, "send replies").only(&[&[(4, Null)]]),
    used("sendmsg", libc::SYS_sendmsg, "pass a map to a worker, a socket to the broker"),
    used("socketpair", libc::SYS_socketpair, "connection to a worker or resolver")
        .only(&[&[(0, Equals(AF_UNIX)), (1, Equals(SEQPACKET))]]),
    used("shutdown", libc::SYS_shutdown, "end a late request; stop reading at shutdown"),
    used("epoll_ctl", libc::SYS_epoll_ctl, "start or stop waiting for a client"),
    used("epoll_pwait", libc::SYS_epoll_pwait, "wait for clients"),
    used("timerfd_settime", libc::SYS_timerfd_settime, "time out requests, resume accepting"),
    used("close", libc::SYS_close, "close a device or a connection"),
    // Devices and their commands.
    used("ioctl", libc::SYS_ioctl, "send a command").only(&[&[(1, Equals(SG_IO))]]),
    used("fstat", libc::SYS_fstat, "file type of a soft LUN; directories, by the C library"),
    used("fcntl", libc::SYS_fcntl, "check the access mode of a descriptor").only(&[
        &[(1, Equals(F_GETFL))],
        &[(1, Equals(F_GETFD))],
        &[(1, Equals(F_DUPFD_CLOEXEC))],
    ]),
    // Landlock restricts the files, but not with O_PATH.
    used("openat", libc::SYS_openat, "read sysfs").only(&[&[(2, BitsClear(O_PATH))]]),
    used("read", libc::SYS_read, "read signals"),
    rare("pread64", libc::SYS_pread64, "recognize a multipath map in sysfs"),
    rare("lseek", libc::SYS_lseek, "read sysfs, by the standard library"),
    used("statx", libc::SYS_statx, "device number of a descriptor; devices in sysfs"),
    rare("newfstatat", libc::SYS_newfstatat, "the same, by the C library"),
    rare("readlinkat", libc::SYS_readlinkat, "file name for the log; the disk of an sg node"),
    // Limited to the permitted set, so a thread cannot gain a capability.
    rare("capget", libc::SYS_capget, "save the capabilities of the thread"),
    rare("capset", libc::SYS_capset, "check as a client would that a device covers its disk"),
    // Threads.
    used("clone3", libc::SYS_clone3, "tried first; see `ENOSYS`"),
    used("clone", libc::SYS_clone, "start a thread").only(&[&[(0, BitsSet(CLONE_THREAD))]]),
    used("set_robust_list", libc::SYS_set_robust_list, "start of a thread, by the C library"),
    used("rseq", libc::SYS_rseq, "the same"),
    used("rt_sigprocmask", libc::SYS_rt_sigprocmask, "the same"),
    used("sigaltstack", libc::SYS_sigaltstack, "the same, by the standard library"),
    used("sched_getaffinity", libc::SYS_sched_getaffinity, "the same"),
    used("gettid", libc::SYS_gettid, "the same; traces"),
    used("prctl", libc::SYS_prctl, "name of a thread").only(&[&[(0, Equals(PR_SET_NAME))]]),
    used("futex", libc::SYS_futex, "wait for locks, wake threads"),
    used("exit", libc::SYS_exit, "end of a thread"),
    // Memory, which cannot be executable.
    used("mmap", libc::SYS_mmap, "stacks and heap").only(&[&[(2, BitsClear(PROT_EXEC))]]),
    used("mprotect", libc::SYS_mprotect, "guard pages").only(&[&[(2, BitsClear(PROT_EXEC))]]),
    used("munmap", libc::SYS_munmap, "free memory"),
    used("madvise", libc::SYS_madvise, "free a stack"),
    rare("mremap", libc::SYS_mremap, "grow memory"),
    rare("brk", libc::SYS_brk, "heap"),
    rare("getrandom", libc::SYS_getrandom, "seeds of hash tables"),
    // Log and trace.
    used("write", libc::SYS_write, "log and trace"),
    used(
        "ppoll",
        libc::SYS_ppoll,
        "wait for room in the log or for a worker, or look for requests at shutdown",
    ),
    rare("ftruncate", libc::SYS_ftruncate, "remove a partial record after the disk was full"),
    rare("clock_gettime", libc::SYS_clock_gettime, "time, if the vDSO has no clock"),
    // Shutdown, after a signal that is read from a descriptor.
    rare("clock_nanosleep", libc::SYS_clock_nanosleep, "wait for commands in flight"),
    used("exit_group", libc::SYS_exit_group, "exit"),
    rare("dup3", libc::SYS_dup3, "detach the standard streams of a daemon"),
    rare("getpid", libc::SYS_getpid, "abort with a core dump after a bug"),
    rare("tgkill", libc::SYS_tgkill, "the same").only(&[&[(0, OwnPid), (2, Equals(SIGABRT))]]),
    rare("rt_sigaction", libc::SYS_rt_sigaction, "the same"),
    // Calls that the kernel has a process make.
    rare("rt_sigreturn", libc::SYS_rt_sigreturn, "return from a signal handler"),
    rare("restart_syscall", libc::SYS_restart_syscall, "continue a call after a stop"),
];

/// System calls that newer architectures do not have.
#[rustfmt::skip] // One line for each.
#[cfg(target_arch = "x86_64")]
pub const LEGACY: &[SyscallRule] = &[
    rare("epoll_wait", libc::SYS_epoll_wait, "wait for clients"),
    rare("poll", libc::SYS_poll, "wait for room in the log"),
    used("readlink", libc::SYS_readlink, "file name for the log; the disk of an sg node"),
    rare("open", libc::SYS_open, "read sysfs").only(&[&[(1, BitsClear(O_PATH))]]),
    rare("stat", libc::SYS_stat, "devices in sysfs"),
    rare("dup2", libc::SYS_dup2, "detach the standard streams of a daemon"),
    rare("nanosleep", libc::SYS_nanosleep, "wait for commands in flight"),
];

/// System calls that newer architectures do not have.
#[cfg(not(target_arch = "x86_64"))]
pub const LEGACY: &[SyscallRule] = &[];

/// Further system calls of a helper with soft LUNs.
#[rustfmt::skip] // One line for each.
pub const SOFT_LUNS: &[SyscallRule] = &[
    used("flock", libc::SYS_flock, "serialize commands"),
    rare("getdents64", libc::SYS_getdents64, "check that the directory is readable"),
    used("fchmod", libc::SYS_fchmod, "make a file readable by other users"),
    used("fdatasync", libc::SYS_fdatasync, "APTPL: registrations survive a power loss"),
    rare("fsync", libc::SYS_fsync, "APTPL: registrations survive a power loss"),
    #[cfg(not(target_arch = "riscv64"))]
    rare("renameat", libc::SYS_renameat, "replace a file atomically"),
    rare("renameat2", libc::SYS_renameat2, "the same"),
    used("unlinkat", libc::SYS_unlinkat, "remove the new file of an incomplete change"),
];

/// Further system calls of a helper that traces to syslog: its datagrams have an address.
#[rustfmt::skip] // One line for each.
pub(super) const SYSLOG: &[SyscallRule] = &[
    used("sendto", libc::SYS_sendto, "send replies, and lines to syslog"),
];

/// System calls that only an intruder makes, and that kill the process. All other calls that are
/// not allowed fail with `EPERM`, because a new version of a library can make them.
#[rustfmt::skip] // Several in a line.
pub(super) const KILL: &[c_long] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_bpf, libc::SYS_mount, libc::SYS_unshare,
    libc::SYS_setns, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_kexec_load,
    libc::SYS_open_by_handle_at, libc::SYS_io_uring_setup,
];

/// System calls that fail with `ENOSYS`, as if the kernel lacked them. The C library then uses an
/// older call, and the filter can check the arguments of that call.
pub(super) const ENOSYS: &[c_long] = &[libc::SYS_clone3];
