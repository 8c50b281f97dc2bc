//! Memory that the C library's allocator keeps.

/// Returns memory to the kernel that was freed, and that the allocator keeps for later allocations.
///
/// The GNU C library keeps what many threads have freed in pools of their own, which only this call
/// gives back. Another C library is left alone.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes the allocator's own locks, and gives back only memory that is not
    // allocated. Any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
