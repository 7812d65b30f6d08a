//! The handshake of listeners with a shared key: the server speaks first.
//!
//! ```text
//! -> ["HELO", {"nonce": 16 bytes, "auth": salt of passwords or "", "keepalive": true}]
//! <- ["PING", client's host, salt, hex SHA-512(salt host nonce key), user, hex SHA-512(auth user password)]
//! -> ["PONG", true, "", server's host, hex SHA-512(salt host nonce key)]
//! ```

use sha2::{Digest, Sha512};
use std::fmt;
use weir_protocol::msgpack::{take_array, take_string, write_bin, write_str};

/// Bytes of a nonce and of a salt.
pub const SALT_BYTES: usize = 16;
/// Digits of a digest.
const DIGEST_DIGITS: usize = 128;
/// Bytes of the longest PING: two digests, and names of at most 255 bytes.
pub const PING_BYTES_MAX: usize = 1024;

/// What a listener knows, and its clients must.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// What this server calls itself. Fluentd takes no server of its own host's name.
    pub hostname: String,
    /// What all clients know.
    pub shared_key: Vec<u8>,
    /// Names and passwords. Empty: the key is enough.
    pub users: Vec<(String, String)>,
    /// Random bytes of this run, which nonces are made of.
    pub seed: [u8; 32],
}

/// Never what is secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({}, {} users)", self.hostname, self.users.len())
    }
}

/// What one connection was greeted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    pub nonce: [u8; SALT_BYTES],
    pub auth: [u8; SALT_BYTES],
}

impl Greeting {
    /// Of a connection: nobody who does not know the seed can tell it in advance, and it does not come again.
    pub fn new(secrets: &Secrets, connection: u64) -> Greeting {
        let digest = sha512(&[&secrets.seed, &connection.to_be_bytes()]);
        let (mut nonce, mut auth) = ([0; SALT_BYTES], [0; SALT_BYTES]);
        nonce.copy_from_slice(&digest[..SALT_BYTES]);
        auth.copy_from_slice(&digest[SALT_BYTES..2 * SALT_BYTES]);
        Greeting { nonce, auth }
    }

    pub fn write(&self, secrets: &Secrets, out: &mut Vec<u8>) {
        out.push(0x92);
        write_str(out, b"HELO");
        out.push(0x83);
        write_str(out, b"nonce");
        write_bin(out, &self.nonce);
        write_str(out, b"auth");
        let auth = if secrets.users.is_empty() {
            &[][..]
        } else {
            &self.auth
        };
        write_bin(out, auth);
        write_str(out, b"keepalive");
        out.push(0xc3);
    }
}

/// What came of a PING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; empty: it is not.
    pub refused: &'static str,
    salt: Vec<u8>,
}

/// Whether a whole value is a PING: `None`, it is none.
pub fn check(ping: &[u8], greeting: &Greeting, secrets: &Secrets) -> Option<Verdict> {
    let mut rest = ping;
    let values = take_array(&mut rest)?;
    let mut string = || take_string(&mut rest);
    if values != 6 || string()? != b"PING" {
        return None;
    }
    let (host, salt, digest, user, password) =
        (string()?, string()?, string()?, string()?, string()?);
    let key = &secrets.shared_key;
    let is_key = is_same(&hex_sha512(&[salt, host, &greeting.nonce, key]), digest);
    let known = secrets
        .users
        .iter()
        .find(|(name, _)| name.as_bytes() == user);
    let expected = known.map_or(&[][..], |(_, password)| password.as_bytes());
    let is_password = is_same(&hex_sha512(&[&greeting.auth, user, expected]), password);
    let is_user = secrets.users.is_empty() || known.is_some() && is_password;
    let refused = match (is_key, is_user) {
        (false, _) => "shared key mismatch",
        (true, false) => "username/password mismatch",
        (true, true) => "",
    };
    Some(Verdict {
        refused,
        salt: salt.to_vec(),
    })
}

impl Verdict {
    pub fn write(&self, greeting: &Greeting, secrets: &Secrets, out: &mut Vec<u8>) {
        out.push(0x95);
        write_str(out, b"PONG");
        out.push(if self.refused.is_empty() { 0xc3 } else { 0xc2 });
        write_str(out, self.refused.as_bytes());
        if self.refused.is_empty() {
            let host = secrets.hostname.as_bytes();
            let digest = hex_sha512(&[&self.salt, host, &greeting.nonce, &secrets.shared_key]);
            write_str(out, host);
            write_str(out, &digest);
        } else {
            // Who does not know the key learns nothing that was made with it.
            write_str(out, b"");
            write_str(out, b"");
        }
    }
}

/// SHA-512 of the parts, one behind the other.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The same in hexadecimal digits.
pub fn hex_sha512(parts: &[&[u8]]) -> [u8; DIGEST_DIGITS] {
    let mut digits = [0; DIGEST_DIGITS];
    for (two, byte) in digits.chunks_exact_mut(2).zip(sha512(parts)) {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        two.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

/// Looks at all bytes whatever they are: how long it takes tells nothing.
fn is_same(expected: &[u8; DIGEST_DIGITS], given: &[u8]) -> bool {
    let differs = expected
        .iter()
        .zip(given)
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == expected.len() && differs == 0
}
