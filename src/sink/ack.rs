//! What the number in an ACK stands for. On the wire it wraps; on a link it does not.

use std::fmt;

/// Links keep fewer messages un-ACKed than this; it makes wrapped ACK numbers unambiguous.
pub const UNACKED_MESSAGES_MAX: u64 = 1 << 30;

/// What an ACK does to its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckStep {
    /// Everything up to this sequence is done now.
    Advance(u64),
    /// Repeats or goes back: ignored and counted.
    Stale,
}

/// ACK of a message that was never sent on this link. The link is closed and its un-ACKed messages
/// re-routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckBeyond {
    /// The number on the wire.
    pub raw: u64,
    /// What was sent.
    pub sent: u64,
}

impl AckBeyond {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        "ack_beyond_sent"
    }
}

impl fmt::Display for AckBeyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ACK {} but only {} messages were sent on this link",
            self.raw, self.sent
        )
    }
}

impl std::error::Error for AckBeyond {}

/// How many numbers ACKs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckNumbers {
    /// The low bits of the sequence: 31 or 32. Numbers begin again after 2^bits messages.
    Wrapping {
        /// How many.
        bits: u32,
    },
    /// All 64: a link does not live to see them wrap.
    Whole,
}

impl AckNumbers {
    /// Whether they begin again.
    pub fn wrap(self) -> bool {
        self != AckNumbers::Whole
    }

    /// Finds the sequence that `raw` stands for on a link where `acked` of `sent` messages are ACKed.
    ///
    /// ```text
    ///   one turn of the wire's numbers, seen from `acked`:
    ///   acked        sent               half a turn                 acked again
    ///     |-- advance --|----- beyond -----|---- stale: goes back ----|
    /// ```
    ///
    /// Fewer than [`UNACKED_MESSAGES_MAX`] may be un-ACKed, so the advancing part never reaches the
    /// other half. A step back to before the link's first message can only be a number never sent.
    ///
    /// # Errors
    /// The number was never sent.
    #[inline]
    pub fn resolve(self, raw: u64, acked: u64, sent: u64) -> Result<AckStep, AckBeyond> {
        debug_assert!(acked <= sent && sent - acked < UNACKED_MESSAGES_MAX);
        let (forward, turn) = match self {
            Self::Wrapping { bits } => (raw.wrapping_sub(acked) & ((1 << bits) - 1), 1u64 << bits),
            Self::Whole if raw > sent => return Err(AckBeyond { raw, sent }),
            Self::Whole if raw > acked => return Ok(AckStep::Advance(raw)),
            Self::Whole => return Ok(AckStep::Stale),
        };
        let back = turn - forward;
        if forward == 0 {
            Ok(AckStep::Stale)
        } else if forward <= sent - acked {
            Ok(AckStep::Advance(acked + forward))
        } else if forward > turn / 2 && back <= acked {
            Ok(AckStep::Stale)
        } else {
            Err(AckBeyond { raw, sent })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{encode_ack, Control, Decoder, Dialect, Sink};
    use super::*;
    use proptest::prelude::*;

    const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

    fn resolve_ack(
        dialect: Dialect,
        raw: u64,
        acked: u64,
        sent: u64,
    ) -> Result<AckStep, AckBeyond> {
        let numbers = Sink::from(dialect).facts().acks.numbers();
        numbers.resolve(raw, acked, sent)
    }

    #[test]
    fn acks_across_the_wrap() {
        let turn = 1u64 << 31;
        let at = |raw, acked, sent| resolve_ack(Dialect::Compact, raw, acked, sent);
        assert_eq!(at(0, turn - 5, turn), Ok(AckStep::Advance(turn)));
        assert_eq!(at(3, turn - 5, turn + 3), Ok(AckStep::Advance(turn + 3)));
        assert_eq!(
            at(turn - 1, turn - 5, turn + 3),
            Ok(AckStep::Advance(turn - 1))
        );
        assert_eq!(at(turn - 5, turn - 5, turn + 3), Ok(AckStep::Stale));
        assert_eq!(at(turn - 6, turn - 5, turn + 3), Ok(AckStep::Stale));
        assert_eq!(at(turn - 1, turn + 1, turn + 3), Ok(AckStep::Stale));
        assert!(at(4, turn - 5, turn + 3).is_err());
    }

    #[test]
    fn the_first_and_the_last_number_of_what_is_open() {
        for dialect in DIALECTS {
            let at = |raw| resolve_ack(dialect, raw, 5, 9);
            assert_eq!(at(4), Ok(AckStep::Stale), "{dialect}");
            assert_eq!(at(5), Ok(AckStep::Stale), "{dialect}");
            assert_eq!(at(6), Ok(AckStep::Advance(6)), "{dialect}");
            assert_eq!(at(9), Ok(AckStep::Advance(9)), "{dialect}");
            let beyond = at(10).expect_err("ten were not sent");
            assert_eq!(beyond, AckBeyond { raw: 10, sent: 9 });
            assert_eq!(beyond.as_str(), "ack_beyond_sent");
            assert!(beyond.to_string().starts_with("ACK 10 but only 9"));
        }
        // Exactly half a turn may be either way; it is taken for one that was never sent.
        let turn = 1 << 31;
        let half = |raw| resolve_ack(Dialect::Compact, raw, turn, turn);
        assert!(half(turn / 2).is_err());
        assert_eq!(half(turn / 2 + 1), Ok(AckStep::Stale));
    }

    #[test]
    fn nothing_precedes_the_first_message() {
        for dialect in [Dialect::Typed, Dialect::Compact] {
            let last_of_turn = if dialect == Dialect::Typed {
                u32::MAX
            } else {
                i32::MAX as u32
            };
            assert_eq!(resolve_ack(dialect, 0, 0, 9), Ok(AckStep::Stale));
            assert_eq!(resolve_ack(dialect, 0, 5, 9), Ok(AckStep::Stale));
            assert!(
                resolve_ack(dialect, last_of_turn.into(), 5, 9).is_err(),
                "{dialect}"
            );
            assert!(resolve_ack(dialect, 10, 5, 9).is_err());
        }
    }

    proptest! {
        /// Truth: the analyzer means `meant`; only its wrapped number travels.
        #[test]
        fn a_wrapped_ack_means_what_was_meant(
            acked in prop_oneof![0u64..1000, (1u64 << 31) - 1000..(1 << 31) + 1000,
                                 (1u64 << 32) - 1000..(1 << 32) + 1000, 0u64..1 << 50],
            window in prop_oneof![0u64..2000, 0..UNACKED_MESSAGES_MAX],
            offset in prop_oneof![-2000i64..4000, -(1i64 << 29)..(1 << 30)],
        ) {
            let meant = acked.saturating_add_signed(offset);
            let sent = acked + window;
            let expected = if meant > sent {
                Err(())
            } else if meant > acked {
                Ok(AckStep::Advance(meant))
            } else {
                Ok(AckStep::Stale)
            };
            for dialect in DIALECTS {
                let word = encode_ack(dialect, meant);
                let Some(Ok(Control::Ack(raw))) =
                    Decoder::new(dialect.into()).next(&mut word.as_bytes())
                else {
                    panic!("not an ACK");
                };
                // Beyond half a turn a number looks like one that goes back.
                if meant.saturating_sub(acked) <= 1 << 30 {
                    let read = resolve_ack(dialect, raw, acked, sent).map_err(|_| ());
                    prop_assert_eq!(read, expected, "{}", dialect);
                }
            }
        }
    }
}
