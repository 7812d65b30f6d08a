//! What the messages of a lane are, where their bytes do not say so. A lane of frames carries payloads as their
//! source gave them; who renders one, an HTTP analyzer's lane that gets it by a re-route for instance, must know
//! its form.
//!
//! ```text
//! lane    1 2 3 4 5 6 7 8 9
//! form    . . J J J . . J .      runs: (3..=5, Json) (8..=8, Json); raw messages have none
//! ```
//!
//! Only what is not raw has a run, so a stream of frames costs nothing.

use std::collections::VecDeque;

use super::shard::Engine;
use super::{LaneId, Memory};
use weir_protocol::Form;

struct Run {
    first: u64,
    last: u64,
    form: Form,
}

/// The forms in one lane of frames or batches, as runs, oldest first. Bounded by the engine, all lanes together.
#[derive(Default)]
pub(super) struct Forms {
    runs: VecDeque<Run>,
}

impl Forms {
    /// Messages up to `last`, the newest of the lane, are of this form, which is not raw. False: that takes one
    /// more run and there is no room for it; nothing was noted.
    pub(super) fn keep(&mut self, last: u64, messages: u64, form: Form, has_room: bool) -> bool {
        let first = last + 1 - messages;
        match self.runs.back_mut() {
            Some(newest) if newest.last + 1 == first && newest.form == form => newest.last = last,
            _ if has_room => self.runs.push_back(Run { first, last, form }),
            _ => return false,
        }
        true
    }

    /// The same where the newest run goes on. False: it does not.
    #[inline]
    fn go_on(&mut self, last: u64, messages: u64, form: Form) -> bool {
        match self.runs.back_mut() {
            Some(newest) if newest.last + messages == last && newest.form == form => {
                newest.last = last;
                true
            }
            _ => false,
        }
    }

    /// The form of a message.
    pub(super) fn of(&self, message: u64) -> Form {
        let behind = self.runs.partition_point(|run| run.last < message);
        let run = self.runs.get(behind).filter(|run| run.first <= message);
        run.map_or(Form::Raw, |run| run.form)
    }

    /// Messages up to `message` have left the lane; how many runs went with them.
    pub(super) fn forget(&mut self, message: u64) -> usize {
        let before = self.runs.len();
        while self.runs.front().is_some_and(|run| run.last <= message) {
            self.runs.pop_front();
        }
        before - self.runs.len()
    }

    /// Runs.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}

impl<M: Memory> Engine<M> {
    /// The newest messages of a lane of frames are of this form. Beyond the bound they count as raw.
    #[inline]
    pub(super) fn note_form(&mut self, lane: LaneId, messages: u64, form: Form) {
        if form == Form::Raw {
            return;
        }
        let slot = &mut self.lanes[lane.0 as usize];
        if !slot.forms.go_on(slot.lane.appended(), messages, form) {
            self.note_other_form(lane, messages, form);
        }
    }

    #[inline(never)]
    fn note_other_form(&mut self, lane: LaneId, messages: u64, form: Form) {
        let slot = &mut self.lanes[lane.0 as usize];
        let before = slot.forms.len();
        let has_room = self.forms_kept < self.forms_max;
        if !slot
            .forms
            .keep(slot.lane.appended(), messages, form, has_room)
        {
            self.counters.pieces_lost += messages;
        }
        self.forms_kept += slot.forms.len() - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_and_go_with_their_messages() {
        let mut forms = Forms::default();
        assert!(forms.keep(4, 2, Form::Json, true)); // 3, 4
        assert!(
            forms.keep(5, 1, Form::Json, false),
            "it is next to the newest"
        );
        assert!(!forms.keep(9, 2, Form::Json, false));
        assert!(forms.keep(12, 3, Form::Json, true)); // 10 to 12
        let is_json = |forms: &Forms, message| forms.of(message) == Form::Json;
        let json: Vec<u64> = (0..15)
            .filter(|message| is_json(&forms, *message))
            .collect();
        assert_eq!(json, [3, 4, 5, 10, 11, 12]);
        assert_eq!(
            (forms.len(), forms.forget(4), is_json(&forms, 5)),
            (2, 0, true)
        );
        assert_eq!((forms.forget(11), is_json(&forms, 5)), (1, false));
        assert_eq!(
            (is_json(&forms, 12), forms.forget(12), forms.len()),
            (true, 1, 0)
        );
    }
}
