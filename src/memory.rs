//! How the allocator is set, in the binary and where it is measured.

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Milliseconds for which freed memory is kept: batches come and go many times a second, and pages
/// that are given back have to be cleared before they are used again. Each second costs memory: with
/// a million accounts, five of them take 45 MiB more than one.
const KEEP_MEMORY_MS: std::ffi::c_long = 1_000;

/// Lets mimalloc keep freed memory for a while; `MIMALLOC_PURGE_DELAY` wins. To be called before
/// there is a second thread.
pub fn keep_freed() {
    // SAFETY: the option exists, and setting it is an atomic store.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP_MEMORY_MS) };
}
