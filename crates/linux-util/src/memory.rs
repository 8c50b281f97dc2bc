// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory that the C library's allocator retains.

/// Returns freed memory to the kernel. The GNU C library keeps it in pools of its threads, which
/// only this call trims. With any other C library the function does nothing.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes the allocator's own locks and releases only memory that is not
    // allocated. Any thread can call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
