//! Keys of tickets out of a file, which several distributors share: a client resumes with any of them, and after a restart.
//!
//! ```text
//! a ticket    name of the key 16 | made at 8 | salt 16 | state of the session, sealed | tag 16
//! its key     HMAC-SHA-256(the key's secret, salt), for AES-256-GCM, used once
//! bound to    all before the state, and to what says which clients are let in
//! ```
//!
//! So a ticket is of no use where other clients are let in than where it was made: who resumes is not looked at again.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM, NONCE_LEN};
use aws_lc_rs::{hmac, rand};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use rustls::server::ProducesTickets;

use crate::fingerprint::Fingerprint;
use crate::pem::{now_s, read_file, unusable, Unusable};

/// How long a ticket is taken, in seconds: as long as those of a distributor's own keys at least.
const LIFETIME_S: u32 = 6 * 60 * 60;
/// Clocks of distributors that share keys may differ by so much, in seconds.
const CLOCKS_APART_S: i64 = 300;
/// Keys that count, from the end of the file: the last is not used yet, the one before makes tickets, both and the one
/// before them take tickets. As HAProxy has it.
const KEYS_MAX: usize = 3;
/// Bytes of a key, as HAProxy's `tls-ticket-keys` has them: a name and two secrets, of 16 or of 32 bytes each.
const KEY_BYTES: [usize; 2] = [48, 80];
const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = NAME_BYTES + TIME_BYTES + SALT_BYTES;

/// See the head of this file.
pub(crate) struct SharedTickets {
    /// In the order of the file.
    keys: Vec<Key>,
    /// Which of them makes tickets.
    current: usize,
    trust: Fingerprint,
}

struct Key {
    name: [u8; NAME_BYTES],
    secret: hmac::Key,
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.len();
        f.debug_struct("SharedTickets")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

impl SharedTickets {
    /// Reads a file. `trust`: what says which clients are let in.
    ///
    /// # Errors
    /// The file and the line, and what is allowed; never a key.
    pub(crate) fn read(path: &Path, trust: Fingerprint) -> Result<SharedTickets, Unusable> {
        let text = read_file(path)?;
        SharedTickets::of(&text, trust).map_err(|why| unusable(path, why))
    }

    fn of(text: &[u8], trust: Fingerprint) -> Result<SharedTickets, String> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = Key::of(line).map_err(|why| format!("line {}: {why}", index + 1))?;
            if keys.iter().any(|other| other.name == key.name) {
                return Err(format!(
                    "line {}: a key that begins with the same 16 bytes stands above; allowed: each once",
                    index + 1
                ));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(format!("it has no key; allowed: {ALLOWED}"));
        }
        keys.drain(..keys.len().saturating_sub(KEYS_MAX));
        Ok(SharedTickets {
            current: keys.len().saturating_sub(2),
            keys,
            trust,
        })
    }

    /// What is sealed with a ticket, and what its key is made of.
    fn bound(&self, head: &[u8]) -> Vec<u8> {
        [head, self.trust.bytes()].concat()
    }

    fn seal(&self, state: &[u8], now_s: i64) -> Option<Vec<u8>> {
        let key = &self.keys[self.current];
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).ok()?;
        let mut ticket = [&key.name[..], &now_s.to_be_bytes(), &salt].concat();
        let bound = Aad::from(self.bound(&ticket));
        let mut sealed = state.to_vec();
        let once = key.once(&salt)?;
        once.seal_in_place_append_tag(no_nonce(), bound, &mut sealed)
            .ok()?;
        ticket.extend(sealed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now_s: i64) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(HEAD_BYTES)?;
        let (name, rest) = head.split_at(NAME_BYTES);
        let (made, salt) = rest.split_at(TIME_BYTES);
        let age_s = now_s.checked_sub(i64::from_be_bytes(made.try_into().ok()?))?;
        if !(-CLOCKS_APART_S..=i64::from(LIFETIME_S)).contains(&age_s) {
            return None;
        }
        let key = self.keys.iter().find(|key| key.name == *name)?;
        let mut state = sealed.to_vec();
        let bound = Aad::from(self.bound(head));
        let opened = key.once(salt)?.open_in_place(no_nonce(), bound, &mut state);
        let len = opened.ok()?.len();
        state.truncate(len);
        Some(state)
    }
}

const ALLOWED: &str =
    "a line for each key, base64 of 80 or 48 random bytes (openssl rand 80 | openssl base64 -A)";

impl Key {
    fn of(line: &[u8]) -> Result<Key, String> {
        let bytes = STANDARD.decode(line).map_err(|_| {
            format!(
                "{} characters that are not base64; allowed: {ALLOWED}",
                line.len()
            )
        })?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(format!(
                "a key of {} bytes; allowed: {ALLOWED}",
                bytes.len()
            ));
        }
        let (name, secret) = bytes.split_at(NAME_BYTES);
        Ok(Key {
            name: name.try_into().expect("as long as it is"),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        })
    }

    /// For one ticket: so no nonce is used twice, however many distributors make tickets.
    fn once(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let key = hmac::sign(&self.secret, salt);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }
}

fn no_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now_s())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now_s())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn line(of: u8) -> String {
        STANDARD.encode([of; 80]) + "\n"
    }

    fn tickets(keys: &[u8], trust: &[u8]) -> SharedTickets {
        let text: String = keys.iter().map(|key| line(*key)).collect();
        SharedTickets::of(text.as_bytes(), Fingerprint::of(trust)).expect("keys")
    }

    #[test]
    fn the_last_but_one_makes_tickets_and_the_last_three_take_them() {
        let mut ticket = tickets(&[1], b"").seal(b"state", NOW).expect("sealed");
        assert_eq!(ticket[0], 1, "the only one");
        for (keys, current) in [(&[1, 2][..], 1), (&[1, 2, 3], 2), (&[1, 2, 3, 4], 3)] {
            let now = tickets(keys, b"");
            // Its key is there, but for the last round.
            let opened = now.open(&ticket, NOW + 1);
            assert_eq!(opened.as_deref(), Some(&b"state"[..]), "{keys:?}");
            ticket = now.seal(b"state", NOW).expect("sealed");
            assert_eq!(ticket[0], current, "{keys:?}");
        }
        let gone = tickets(&[1], b"").seal(b"state", NOW).expect("sealed");
        assert_eq!(tickets(&[1, 2, 3, 4], b"").open(&gone, NOW), None);
    }

    #[test]
    fn what_is_old_or_changed_or_of_other_clients_is_not_taken() {
        let own = tickets(&[1, 2], b"a CA");
        let ticket = own.seal(b"state", NOW).expect("sealed");
        let lifetime = i64::from(LIFETIME_S);
        for (now, is_taken) in [
            (NOW + lifetime, true),
            (NOW + lifetime + 1, false),
            (NOW - CLOCKS_APART_S, true),
            (NOW - CLOCKS_APART_S - 1, false),
        ] {
            assert_eq!(own.open(&ticket, now).is_some(), is_taken, "{now}");
        }
        assert_eq!(tickets(&[1, 2], b"another").open(&ticket, NOW), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(own.open(&changed, NOW), None, "byte {at}");
            assert_eq!(own.open(&ticket[..at], NOW), None, "{at} bytes of it");
        }
    }

    #[test]
    fn wrong_lines_are_named_and_not_shown() {
        let short = STANDARD.encode([7; 47]);
        let twice = line(1) + &line(1);
        // As `openssl rand -base64 80` breaks it: the first line alone would be a key.
        let broken = format!("{}\n{}\n", &line(1)[..64], &line(1)[64..].trim_end());
        for (text, why) in [
            (short.as_str(), "line 1: a key of 47 bytes; allowed: a line"),
            ("# comment\n\n%%%\n", "line 3: 3 characters that are not"),
            (&twice, "line 2: a key that begins with the same"),
            (&broken, "line 2: a key of 32 bytes"),
            ("# none\n", "it has no key; allowed"),
        ] {
            let read = SharedTickets::of(text.as_bytes(), Fingerprint::of(b""));
            let said = read.expect_err(why);
            assert!(said.contains(why) && !said.contains(text.trim()), "{said}");
        }
    }
}
