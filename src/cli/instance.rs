//! The number that tells one run from the next.

/// From the kernel's random source, without a file, because a hardened service may see none of /proc/sys. With the
/// process's number and the time if that fails.
pub fn instance() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => {
            crate::ledger::run_report::Stamp::now().mono_ns ^ (u64::from(std::process::id()) << 40)
        }
    }
}
