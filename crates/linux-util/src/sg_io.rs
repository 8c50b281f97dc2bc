// SPDX-License-Identifier: MIT OR Apache-2.0

//! SCSI commands through the `SG_IO` ioctl.
//!
//! Source: `include/scsi/sg.h` (version 3 interface) and `drivers/scsi/scsi_ioctl.c` of the kernel.
//! The ioctl works on SCSI block devices, on their partitions (with `CAP_SYS_RAWIO`), on `sg`, `st`
//! and similar character devices, and on device-mapper maps, which pass it to one of their paths.

use std::ffi::{c_int, c_uchar, c_uint, c_ushort, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// `SG_IO` of `include/scsi/sg.h`.
const SG_IO: libc::Ioctl = 0x2285;

/// `SG_DXFER_NONE`, `SG_DXFER_TO_DEV` and `SG_DXFER_FROM_DEV` of `include/scsi/sg.h`.
const SG_DXFER_NONE: c_int = -1;
const SG_DXFER_TO_DEV: c_int = -2;
const SG_DXFER_FROM_DEV: c_int = -3;

/// `struct sg_io_hdr` of `include/scsi/sg.h`.
#[repr(C)]
struct SgIoHeader {
    interface_id: c_int,
    dxfer_direction: c_int,
    cmd_len: c_uchar,
    mx_sb_len: c_uchar,
    iovec_count: c_ushort,
    dxfer_len: c_uint,
    dxferp: *mut c_void,
    cmdp: *const c_uchar,
    sbp: *mut c_uchar,
    timeout: c_uint,
    flags: c_uint,
    pack_id: c_int,
    usr_ptr: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    msg_status: c_uchar,
    sb_len_wr: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    resid: c_int,
    duration: c_uint,
    info: c_uint,
}

/// Size in bytes of `struct sg_io_v4` of `include/uapi/linux/bsg.h`, the longest header that a
/// driver reads for this ioctl number.
const MAX_HEADER_LEN: usize = 160;

/// The header, padded to the size of the longer one that bsg reads.
#[repr(C)]
struct IoctlArg {
    header: SgIoHeader,
    _padding: [u8; MAX_HEADER_LEN - size_of::<SgIoHeader>()],
}

/// The data buffer of a command, and the direction of the transfer.
#[derive(Debug)]
pub enum Data<'a> {
    /// No data phase.
    None,
    /// Data-Out: the buffer holds parameters for the device.
    ToDevice(&'a [u8]),
    /// Data-In: the buffer receives data from the device.
    FromDevice(&'a mut [u8]),
}

/// The result of a command that the kernel accepted. Each of three layers can report a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// SCSI status byte of the device (SAM-5, 5.3). Valid if the next two fields are zero.
    pub status: u8,
    /// Result of the host adapter: a `DID_…` number of `include/scsi/scsi_status.h`, 0 on success.
    pub host_status: u16,
    /// Result of the driver: `DRIVER_…` bits of old kernels. 0x08 only means that sense data
    /// exists.
    pub driver_status: u16,
    /// Number of bytes of the data buffer that were not transferred.
    pub residual: usize,
}

/// A buffer at an odd address that stands in for a caller's buffer at an even one.
///
/// The kernel lets the device write directly to an aligned buffer. For any other buffer it uses
/// pages of its own, and copies only as many bytes as the buffer holds (`blk_rq_map_user` of
/// `block/blk-map.c`). LIO of Linux 6.12 answers READ FULL STATUS with whole registrations even if
/// the allocation length ends within one. Through its loopback fabric it then writes beyond the end
/// of the buffer: into memory of this process and, beyond the end of a page, of any other.
struct BounceBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl BounceBuffer {
    /// Copies `bytes` to an odd address. Returns `None` if they are at one already.
    fn new(bytes: &[u8]) -> Option<Self> {
        if !bytes.as_ptr().addr().is_multiple_of(2) {
            return None;
        }
        let mut copy = vec![0; bytes.len() + 1];
        let start = usize::from(copy.as_ptr().addr().is_multiple_of(2));
        copy.truncate(start + bytes.len());
        copy[start..].copy_from_slice(bytes);
        Some(Self { bytes: copy, start })
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// Converts a timeout for the kernel, which takes 0 for its default.
fn milliseconds(timeout: Duration) -> c_uint {
    c_uint::try_from(timeout.as_millis().max(1)).unwrap_or(c_uint::MAX)
}

/// Sends `cdb` to `device` and waits until the device has answered or `timeout` has expired.
///
/// All bytes of `cdb` are sent. Sense data is written to the front of `sense`, at most 255 bytes.
/// `timeout` has a resolution of one millisecond. A shorter one is raised to one millisecond,
/// because the kernel takes 0 for its default; block devices raise it to at least 7 seconds. A
/// Data-In buffer at an odd address is filled without an additional copy.
///
/// # Errors
///
/// Returns the errno of the ioctl:
///
/// * `ENOTTY` if the descriptor is not a SCSI device.
/// * `EPERM` if the kernel does not allow this process to send the command.
/// * `EINVAL` if the kernel rejects the CDB or the data length, or has no room for it in the ABI.
pub fn sg_io(
    device: BorrowedFd<'_>,
    cdb: &[u8],
    mut data: Data<'_>,
    sense: &mut [u8],
    timeout: Duration,
) -> io::Result<Completion> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let mut bounce = None;
    let (direction, pointer, length) = match &mut data {
        Data::None => (SG_DXFER_NONE, ptr::null_mut(), 0),
        // The kernel only reads this buffer, because of the direction.
        Data::ToDevice(bytes) => (
            SG_DXFER_TO_DEV,
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
        ),
        Data::FromDevice(bytes) => {
            bounce = BounceBuffer::new(bytes);
            let buffer = bounce
                .as_mut()
                .map_or(&mut **bytes, BounceBuffer::as_mut_slice);
            (SG_DXFER_FROM_DEV, buffer.as_mut_ptr().cast(), buffer.len())
        }
    };
    let header = SgIoHeader {
        interface_id: c_int::from(b'S'),
        dxfer_direction: direction,
        cmd_len: c_uchar::try_from(cdb.len()).map_err(too_long)?,
        mx_sb_len: c_uchar::try_from(sense.len()).unwrap_or(c_uchar::MAX),
        iovec_count: 0,
        dxfer_len: c_uint::try_from(length).map_err(too_long)?,
        dxferp: pointer,
        cmdp: cdb.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: milliseconds(timeout),
        flags: 0,
        pack_id: 0,
        usr_ptr: ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    let mut arg = IoctlArg {
        header,
        _padding: [0; MAX_HEADER_LEN - size_of::<SgIoHeader>()],
    };
    // SAFETY: `device` is open during the call. The argument is the kernel's `sg_io_hdr`, fully
    // initialized. Its three pointers come from live slices, borrowed mutably where the kernel
    // writes, and the header has their lengths (capped for the sense data). SG_IO is synchronous:
    // after the call the kernel retains none of the pointers. A file that takes no SCSI commands
    // does not know the ioctl number. Only bsg nodes know it with another header: they read an
    // `sg_io_v4`, which fits into the argument, find the wrong guard in its first word and reject
    // it. FUSE forwards the number without the memory, because the number announces none. A CUSE
    // server can request the memory, but only root can be one.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO, ptr::from_mut(&mut arg)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if let (Data::FromDevice(bytes), Some(mut bounce)) = (data, bounce) {
        bytes.copy_from_slice(bounce.as_mut_slice());
    }
    Ok(Completion {
        status: arg.header.status,
        host_status: arg.header.host_status,
        driver_status: arg.header.driver_status,
        residual: usize::try_from(arg.header.resid).unwrap_or(0),
    })
}

/// Returns `true` if the kernel accepts `SG_IO` for `device` from the calling thread.
///
/// The call passes no header, so no command is sent. A driver that accepts the ioctl fails to read
/// the header (`EFAULT`). A driver that does not know the ioctl, or denies it to this thread, fails
/// with `ENOTTY`. The call can take as long as a command, because the kernel first waits for the
/// device's error recovery.
#[must_use]
pub fn supports_sg_io(device: BorrowedFd<'_>) -> bool {
    // SAFETY: `device` is open during the call. The argument is a null pointer, through which the
    // kernel can neither read nor write memory.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO, ptr::null_mut::<c_void>()) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOTTY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn timeout_below_a_millisecond_is_rounded_up() {
        assert_eq!(milliseconds(Duration::from_micros(999)), 1);
        assert_eq!(milliseconds(Duration::from_secs(30)), 30_000);
        assert_eq!(milliseconds(Duration::MAX), c_uint::MAX);
    }

    #[test]
    fn header_has_the_size_that_the_kernel_copies() {
        // sizeof(sg_io_hdr_t), from include/scsi/sg.h.
        let is_64_bit = cfg!(target_pointer_width = "64");
        assert_eq!(size_of::<SgIoHeader>(), if is_64_bit { 88 } else { 64 });
    }

    #[test]
    fn bounce_buffer_copies_to_an_odd_address() {
        for length in [1, 24, 4096, 8191] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length + 1).collect();
            let is_odd = !bytes.as_ptr().addr().is_multiple_of(2);
            let even = &bytes[usize::from(is_odd)..][..length];
            let odd = &bytes[usize::from(!is_odd)..][..length];
            let mut bounce = BounceBuffer::new(even).unwrap();
            assert_eq!(bounce.as_mut_slice().as_ptr().addr() % 2, 1);
            assert_eq!(bounce.as_mut_slice(), even);
            assert!(BounceBuffer::new(odd).is_none());
        }
    }

    #[test]
    fn sg_io_on_another_file_or_with_a_long_cdb_fails() {
        let null = File::open("/dev/null").unwrap();
        assert!(!supports_sg_io(null.as_fd()));
        // A file that is not a SCSI device, and a CDB longer than the ABI allows.
        for (cdb, errno) in [(&[0; 6][..], libc::ENOTTY), (&[0; 256], libc::EINVAL)] {
            let timeout = Duration::from_secs(1);
            let result = sg_io(null.as_fd(), cdb, Data::None, &mut [0; 96], timeout);
            assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
        }
    }
}
