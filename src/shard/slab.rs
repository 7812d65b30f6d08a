//! Slots with generations: a completion that comes after its connection is gone finds nobody.

/// What a completion's token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Wake = 1,
    AcceptEmitter,
    AcceptAnalyzer,
    EmitterReceive,
    LinkReceive,
    LinkSend,
    ZeroCopySend,
    Cancel,
    AcceptHttp,
    HttpReceive,
    HttpSend,
    PostConnect,
    PostReceive,
    PostSend,
    DeadLetter,
    EmitterSend,
    OutletConnect,
    OutletReceive,
    OutletSend,
    Datagrams,
}

const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// Index and generation of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) index: u32,
    generation: u32,
}

impl Slot {
    pub(super) fn index(self) -> usize {
        self.index as usize
    }
}

/// `kind | generation | index` in 64 bits.
#[inline]
pub(super) fn token(kind: Kind, slot: Slot) -> u64 {
    u64::from(kind as u8) << 56 | u64::from(slot.generation) << 32 | u64::from(slot.index)
}

/// A token without a slot.
pub(super) fn bare(kind: Kind) -> u64 {
    numbered(kind, 0)
}

/// The token of one of several requests of a kind that has no slots: to the kernel each has to be its own, or a cancel
/// may find one twice and another never.
pub(super) fn numbered(kind: Kind, index: u32) -> u64 {
    let generation = 0;
    token(kind, Slot { index, generation })
}

/// Takes a token apart.
#[inline]
pub(super) fn untoken(token: u64) -> (Option<Kind>, Slot) {
    let kind = match token >> 56 {
        1 => Some(Kind::Wake),
        2 => Some(Kind::AcceptEmitter),
        3 => Some(Kind::AcceptAnalyzer),
        4 => Some(Kind::EmitterReceive),
        5 => Some(Kind::LinkReceive),
        6 => Some(Kind::LinkSend),
        7 => Some(Kind::ZeroCopySend),
        8 => Some(Kind::Cancel),
        9 => Some(Kind::AcceptHttp),
        10 => Some(Kind::HttpReceive),
        11 => Some(Kind::HttpSend),
        12 => Some(Kind::PostConnect),
        13 => Some(Kind::PostReceive),
        14 => Some(Kind::PostSend),
        15 => Some(Kind::DeadLetter),
        16 => Some(Kind::EmitterSend),
        17 => Some(Kind::OutletConnect),
        18 => Some(Kind::OutletReceive),
        19 => Some(Kind::OutletSend),
        20 => Some(Kind::Datagrams),
        _ => None,
    };
    // Both casts take bits out of a word.
    let slot = Slot {
        index: token as u32,
        generation: (token >> 32) as u32 & GENERATION_MASK,
    };
    (kind, slot)
}

struct Cell<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of connections; slots are used again, generations tell old from new.
pub(super) struct Slab<T> {
    cells: Vec<Cell<T>>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab {
            cells: Vec::new(),
            free: Vec::new(),
            used: 0,
        }
    }

    /// The slot that the next [`Slab::insert`] will use.
    pub(super) fn next_slot(&self) -> Slot {
        match self.free.last() {
            Some(index) => Slot {
                index: *index,
                generation: (self.cells[*index as usize].generation + 1) & GENERATION_MASK,
            },
            None => Slot {
                index: u32::try_from(self.cells.len()).unwrap_or(u32::MAX),
                generation: 0,
            },
        }
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        self.used += 1;
        if let Some(index) = self.free.pop() {
            let cell = &mut self.cells[index as usize];
            cell.generation = (cell.generation + 1) & GENERATION_MASK;
            cell.value = Some(value);
            return Slot {
                index,
                generation: cell.generation,
            };
        }
        let index = u32::try_from(self.cells.len()).expect("fewer connections than descriptors");
        self.cells.push(Cell {
            generation: 0,
            value: Some(value),
        });
        Slot {
            index,
            generation: 0,
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        let cell = self.cells.get(slot.index())?;
        cell.value
            .as_ref()
            .filter(|_| cell.generation == slot.generation)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let cell = self.cells.get_mut(slot.index())?;
        cell.value
            .as_mut()
            .filter(|_| cell.generation == slot.generation)
    }

    /// The slot in use at this index.
    pub(super) fn slot_at(&self, index: usize) -> Option<Slot> {
        let cell = self.cells.get(index)?;
        let slot = Slot {
            index: u32::try_from(index).ok()?,
            generation: cell.generation,
        };
        cell.value.is_some().then_some(slot)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        self.get(slot)?;
        self.free.push(slot.index);
        self.used -= 1;
        self.cells[slot.index()].value.take()
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Places, used or not: the bound of [`Slab::slot_at`].
    pub(super) fn places(&self) -> usize {
        self.cells.len()
    }

    /// Slots in use, lowest first.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.iter().map(|(slot, _)| slot).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.cells.iter().zip(0u32..).filter_map(|(cell, index)| {
            let slot = Slot {
                index,
                generation: cell.generation,
            };
            cell.value.as_ref().map(|value| (slot, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_token_does_not_reach_the_next_user_of_the_slot() {
        let mut slab = Slab::new();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.index, second.index);
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"b")));
        assert_eq!((slab.remove(first), slab.len()), (None, 1));
    }

    #[test]
    fn tokens_survive_the_round_trip() {
        let slot = Slot {
            index: u32::MAX,
            generation: GENERATION_MASK,
        };
        let (kind, back) = untoken(token(Kind::Cancel, slot));
        assert_eq!((kind, back), (Some(Kind::Cancel), slot));
        assert_eq!(untoken(bare(Kind::Wake)).0, Some(Kind::Wake));
        assert_eq!(untoken(0).0, None);
    }
}
