//! How the process keeps the memory that it has freed.

/// Tells the system's allocator to keep freed memory for the next step instead of handing it back.
///
/// Every step of training frees and asks for the same gigabytes. Handing them back means that the kernel clears every
/// page anew, which takes about a tenth of a step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    /// The largest threshold that the allocator takes.
    const MAPPED_FROM: libc::c_int = 32 << 20;
    /// No freed memory at the end of the heap is too much to be kept.
    const KEPT: libc::c_int = -1;
    /// What the heap grows by at least.
    const GROWN_BY: libc::c_int = 64 << 20;
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, KEPT), (libc::M_TOP_PAD, GROWN_BY)]
    {
        #[expect(unsafe_code, reason = "the allocator of the system is set through C")]
        // SAFETY: `mallopt` takes two numbers; it is called before any thread is started.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other systems keep memory as they see fit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
