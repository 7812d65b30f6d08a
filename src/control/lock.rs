//! One way to lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a thread that panicked has left nothing half done that matters here.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
