//! Memory of records that were cut, for the next that are: a thread keeps some.

use std::cell::RefCell;

use super::CARRIED_LATER_BYTES_MAX;

/// Buffers that a thread keeps.
const SPARE_MAX: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty one.
pub(super) fn spare() -> Vec<u8> {
    SPARE.with_borrow_mut(|all| all.pop().unwrap_or_default())
}

/// One that is needed no more.
pub(super) fn keep(mut memory: Vec<u8>) {
    memory.clear();
    SPARE.with_borrow_mut(|all| {
        if all.len() < SPARE_MAX && memory.capacity() <= CARRIED_LATER_BYTES_MAX {
            all.push(memory);
        }
    });
}
