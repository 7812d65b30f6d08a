//! Connections to the admin listener by TCP that have not shown the token: who may still be anybody.
//!
//! ```text
//! accept --> enter --> [oldest ......... newest] --> the token was shown: a place of an operator
//!              `-> all taken: the oldest of the address that has most goes
//! ```
//!
//! They have places of their own, so that nobody without the token keeps operators out: whoever comes gets in, and has
//! until so many others came behind it to shake hands and ask. As in the shards' `permits.rs`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use weir_shard::network_of;

/// Most at once. An operator at an address of a crowd gets in while fewer than so many come in the time that he needs for his
/// handshake and the head of his request.
pub(super) const GUESTS_MAX: usize = 32;

/// All that there are, oldest first.
#[derive(Default)]
pub(super) struct Guests(RefCell<Vec<Rc<Waiting>>>);

struct Waiting {
    network: IpAddr,
    is_displaced: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// One of them, until it is dropped or has shown the token.
pub(super) struct Guest {
    all: Rc<Guests>,
    waiting: Rc<Waiting>,
}

impl Guests {
    /// One more; another goes if all places are taken.
    pub(super) fn enter(self: &Rc<Guests>, peer: IpAddr) -> Guest {
        let waiting = Rc::new(Waiting {
            network: network_of(peer),
            is_displaced: Cell::new(false),
            waker: RefCell::default(),
        });
        if self.0.borrow().len() >= GUESTS_MAX {
            self.displace();
        }
        self.0.borrow_mut().push(Rc::clone(&waiting));
        Guest {
            all: Rc::clone(self),
            waiting,
        }
    }

    fn displace(&self) {
        let mut all = self.0.borrow_mut();
        let of = |network| all.iter().filter(|one| one.network == network).count();
        // Of addresses that have as many, the one that came first.
        let oldest = (0..all.len()).rev().max_by_key(|at| of(all[*at].network));
        let Some(most) = oldest.map(|at| all[at].network) else {
            return;
        };
        if let Some(at) = all.iter().position(|one| one.network == most) {
            let displaced = all.remove(at);
            displaced.is_displaced.set(true);
            if let Some(waker) = displaced.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Guest {
    pub(super) fn is_displaced(&self) -> bool {
        self.waiting.is_displaced.get()
    }

    /// Until it has to go.
    pub(super) async fn displaced(&self) {
        poll_fn(|cx| {
            if self.is_displaced() {
                return Poll::Ready(());
            }
            self.waiting.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// It has shown the token.
    pub(super) fn leave(&self) {
        let mut all = self.all.0.borrow_mut();
        all.retain(|one| !Rc::ptr_eq(one, &self.waiting));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(guests: &Rc<Guests>, n: u8) -> Guest {
        guests.enter(IpAddr::from([10, 0, 0, n]))
    }

    fn displaced(all: &[Guest]) -> Vec<usize> {
        let gone = |at: &usize| all[*at].is_displaced();
        (0..all.len()).filter(gone).collect()
    }

    #[test]
    fn the_oldest_of_the_address_that_has_most_makes_room() {
        let guests = Rc::default();
        let mut all: Vec<_> = [1, 2, 3].map(|n| enter(&guests, n)).into();
        all.extend((3..GUESTS_MAX).map(|_| enter(&guests, 3)));
        assert!(displaced(&all).is_empty());
        all.push(enter(&guests, 1));
        assert_eq!(displaced(&all), [2]);
        all.push(enter(&guests, 3));
        assert_eq!(displaced(&all), [2, 3]);
    }

    #[test]
    fn where_none_has_more_the_oldest_of_all_does() {
        let guests = Rc::default();
        let mut all: Vec<_> = (0..GUESTS_MAX as u8).map(|n| enter(&guests, n)).collect();
        all.push(enter(&guests, 200));
        assert_eq!(displaced(&all), [0]);
    }

    #[test]
    fn who_has_shown_the_token_stays_and_who_is_gone_has_no_place() {
        let guests = Rc::default();
        let mut all: Vec<_> = (0..GUESTS_MAX).map(|_| enter(&guests, 1)).collect();
        all[0].leave();
        all.remove(1);
        all.extend((0..3).map(|_| enter(&guests, 1)));
        assert_eq!(displaced(&all), [1], "the third that came");
    }
}
