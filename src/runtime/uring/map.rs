//! Anonymous memory whose address never changes: what the kernel is told to read and write.

use std::io;
use std::ptr::NonNull;

/// A private anonymous mapping, zeroed, page aligned, unmapped on drop.
pub struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory; who may touch which bytes when is decided by its owners
// (`Arena`, `ProvidedBuffers`), which hand out disjoint ranges.
unsafe impl Send for Map {}
// SAFETY: as above; `Map` itself offers no access to the bytes, only their address.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes (rounded up to whole pages by the kernel). Huge pages are asked for, not
    /// required: a region of megabytes that is walked all the time otherwise costs TLB misses.
    ///
    /// # Errors
    /// The kernel's refusal, usually ENOMEM.
    pub fn anonymous(len: usize) -> io::Result<Map> {
        assert!(len > 0, "a mapping has at least one byte");
        // SAFETY: no fixed address, no file: the kernel picks free address space.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: advice on the mapping just made; a refusal is harmless.
        unsafe { libc::madvise(base, len, libc::MADV_HUGEPAGE) };
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Map { base, len }),
            None => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
        }
    }

    /// First byte. Reads and writes through it are the caller's responsibility.
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap returned; nobody uses it after its owner is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
