//! The data ring: the only place with io_uring and unsafe code.
//!
//! ```text
//! Ring ---- ProvidedBuffers   receive memory, lent to the kernel
//!      \--- ArenaView         egress memory, read by the kernel
//! Features                    what this kernel can do
//! adopt_descriptors           sockets that whoever started the process left open for it
//! ```
#![allow(unsafe_code)]

mod arena;
mod datagrams;
mod inherit;
mod lent;
mod limits;
mod map;
mod peers;
mod probe;
mod provided;
mod ring;

pub use arena::{Arena, ArenaView};
pub use datagrams::{datagrams_dropped, force_receive_buffer};
pub use inherit::{adopt_descriptors, pass_standard_streams_alone};
pub use limits::{address_space, behind, nofile_hard, raise_nofile, reserve_descriptors};
pub use peers::{left_of, peer_has_ended, unread_bytes};
pub use probe::{kernel_release, parse_release, Features, Unusable, KERNEL_MIN};
pub use ring::{Ring, RingConfig, SendVector, FREE_FIRST};
