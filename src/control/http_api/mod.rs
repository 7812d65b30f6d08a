//! The HTTP API: what the shards hand on from the public port, and the admin listener with `/admin/...`.
//!
//! ```text
//! public port --> questions.rs --.     token.rs: may it?     .--> answer.rs    changes nothing; page.rs: GET /
//!                                +--> Ask ------------------>+--> admin.rs     orders
//! admin port --> listener.rs ----'                           `--> streams.rs   GET /events
//!                guests.rs: who has not shown the token
//!
//! response.rs   what they answer     http.rs   its bytes     client.rs   the other side: `weir ctl`, `weir top`
//! ```

pub mod admin;
pub mod answer;
pub mod client;
mod guests;
pub mod http;
pub mod listener;
pub mod page;
mod questions;
pub mod response;
pub mod streams;
mod token;

pub(crate) use questions::Questions;
