//! A SCSI command to a device, by the `SG_IO` ioctl.
//!
//! Source: `include/scsi/sg.h` (version 3 interface) and `drivers/scsi/scsi_ioctl.c` of the kernel.
//! Works on SCSI block devices, on their partitions (with `CAP_SYS_RAWIO`), on the `sg`, `st` and
//! similar character devices, and on device-mapper maps, which pass it to one of their paths.

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

/// Bytes of `struct sg_io_v4` of `include/uapi/linux/bsg.h`, the longest header that the number
/// stands for.
const MAX_HEADER_LEN: usize = 160;

/// The header, and room for the longer one that bsg reads.
#[repr(C)]
struct IoctlArg {
    header: SgIoHeader,
    _room: [u8; MAX_HEADER_LEN - size_of::<SgIoHeader>()],
}

/// The data that goes with a command, and its direction.
#[derive(Debug)]
pub enum Data<'a> {
    /// No data phase.
    None,
    /// Data-Out: parameters for the device.
    ToDevice(&'a [u8]),
    /// Data-In: room for the device's answer.
    FromDevice(&'a mut [u8]),
}

/// How a command ended that the kernel accepted: three layers, each of which can report failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The device's SCSI status byte (SAM-5, 5.3). Meaningful when the next two are zero.
    pub status: u8,
    /// The host adapter's verdict: a `DID_…` number of `include/scsi/scsi_status.h`, 0 if it is well.
    pub host_status: u16,
    /// The driver's verdict: `DRIVER_…` bits of old kernels; 0x08 only says that there is sense.
    pub driver_status: u16,
    /// How many bytes of the data area were not transferred.
    pub residual: usize,
}

/// Room for an answer at an odd address, for a caller whose own is at an even one.
///
/// Into memory that is aligned the kernel has the device write; otherwise into pages of its own, from which it
/// copies what there is room for (`blk_rq_map_user` of `block/blk-map.c`). LIO of Linux 6.12 answers READ FULL
/// STATUS with whole registrations, also where the allocation length ends within one. Where it is reached by
/// its loopback fabric it overwrites what is behind the room: our memory, and behind the end of a page
/// anybody's.
struct BounceBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl BounceBuffer {
    /// Room for what is to get to `bytes`; `None` if they are at an odd address already.
    fn new(bytes: &[u8]) -> Option<Self> {
        if !bytes.as_ptr().addr().is_multiple_of(2) {
            return None;
        }
        let length = bytes.len();
        let mut copy = vec![0; length + 1];
        let start = usize::from(copy.as_ptr().addr().is_multiple_of(2));
        copy[start..][..length].copy_from_slice(bytes);
        Some(Self {
            bytes: copy,
            start,
            length,
        })
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.length]
    }
}

/// Sends `cdb` to `device` and waits until the device has answered or `timeout` has passed.
///
/// Room for data at an odd address is filled without a copy of this function's own. The whole of `cdb` is sent. Sense data is written to the front of `sense`, of which at most 255
/// bytes are used. `timeout` has the resolution of a millisecond; block devices raise it to at least
/// 7 seconds.
///
/// # Errors
///
/// The ioctl's errno. `ENOTTY`: the descriptor is no SCSI device. `EPERM`: the kernel did not let
/// this process send the command. `EINVAL`: a CDB or data length that the kernel does not take,
/// also where it does not fit the ABI's fields.
pub fn sg_io(
    device: BorrowedFd<'_>,
    cdb: &[u8],
    mut data: Data<'_>,
    sense: &mut [u8],
    timeout: Duration,
) -> io::Result<Completion> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let mut detour = None;
    let (direction, pointer, length) = match &mut data {
        Data::None => (SG_DXFER_NONE, ptr::null_mut(), 0),
        // The kernel only reads this buffer: the direction says so.
        Data::ToDevice(bytes) => (
            SG_DXFER_TO_DEV,
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
        ),
        Data::FromDevice(bytes) => {
            detour = BounceBuffer::new(bytes);
            let room = detour
                .as_mut()
                .map_or(&mut **bytes, BounceBuffer::as_mut_slice);
            (SG_DXFER_FROM_DEV, room.as_mut_ptr().cast(), room.len())
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
        timeout: c_uint::try_from(timeout.as_millis()).unwrap_or(c_uint::MAX),
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
    let mut area = IoctlArg {
        header,
        _room: [0; MAX_HEADER_LEN - size_of::<SgIoHeader>()],
    };
    // SAFETY: `device` is open for the length of the call. What the kernel is given is its
    // `sg_io_hdr`, fully initialised; the three pointers in it come from live slices whose lengths
    // stand beside them (capped for the sense), borrowed mutably where the kernel writes. SG_IO is
    // synchronous: when the call is back the kernel holds none of them.
    // A file that is not for SCSI commands does not know the number. Those that do, and want another
    // header, are bsg nodes: they read an `sg_io_v4`, for which there is room, find the wrong guard
    // in its first word and refuse. FUSE passes the number on without the memory, since the number
    // announces none. A server of CUSE can ask for the memory; only root can be one.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO, ptr::from_mut(&mut area)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if let (Data::FromDevice(bytes), Some(mut detour)) = (data, detour) {
        bytes.copy_from_slice(detour.as_mut_slice());
    }
    let IoctlArg { header, .. } = area;
    Ok(Completion {
        status: header.status,
        host_status: header.host_status,
        driver_status: header.driver_status,
        residual: usize::try_from(header.resid).unwrap_or(0),
    })
}

/// Returns whether the kernel takes `SG_IO` for `device` from the calling thread.
///
/// The kernel is given no header, so no command is sent. A driver that takes the ioctl fails to
/// read the header (`EFAULT`); a driver that does not know it, or refuses it to this thread, fails
/// with `ENOTTY`. The call can wait as long as a command: the kernel waits for the device's error
/// recovery first.
#[must_use]
pub fn supports_sg_io(device: BorrowedFd<'_>) -> bool {
    // SAFETY: `device` is open for the length of the call. The argument is a null pointer, at which
    // the kernel finds no memory to read or to write.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO, ptr::null_mut::<c_void>()) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOTTY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn device_without_scsi_commands_takes_no_sg_io() {
        assert!(!supports_sg_io(File::open("/dev/null").unwrap().as_fd()));
    }

    #[test]
    fn header_has_the_size_that_the_kernel_copies() {
        // sizeof(sg_io_hdr_t), from include/scsi/sg.h.
        let expected = if cfg!(target_pointer_width = "64") {
            88
        } else {
            64
        };
        assert_eq!(size_of::<SgIoHeader>(), expected);
    }

    #[test]
    fn a_detour_is_as_long_as_the_room_and_at_an_odd_address() {
        for length in [1, 24, 4096, 8191] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length + 1).collect();
            let is_odd = !bytes.as_ptr().addr().is_multiple_of(2);
            let (even, odd) = (
                &bytes[usize::from(is_odd)..],
                &bytes[usize::from(!is_odd)..],
            );
            let mut detour = BounceBuffer::new(&even[..length]).unwrap();
            assert_eq!(detour.as_mut_slice().as_ptr().addr() % 2, 1);
            assert_eq!(detour.as_mut_slice(), &even[..length]);
            assert!(BounceBuffer::new(&odd[..length]).is_none());
        }
    }

    #[test]
    fn a_file_that_is_no_scsi_device_gives_enotty() {
        let null = File::open("/dev/null").unwrap();
        let mut sense = [0; 96];
        let error = sg_io(
            null.as_fd(),
            &[0; 6],
            Data::None,
            &mut sense,
            Duration::from_secs(1),
        )
        .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn a_cdb_longer_than_the_abi_allows_is_einval() {
        let null = File::open("/dev/null").unwrap();
        let error =
            sg_io(null.as_fd(), &[0; 256], Data::None, &mut [], Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
