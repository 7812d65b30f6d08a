//! HTTP: packets by POST (`src/shard/http_out`). Its answers are no words of a stream: each belongs to one request,
//! and `weir_http::ResponseReader` reads it with that.

use super::{Acks, Facts, Layout, Links, Mute, Told};

pub(super) static FACTS: Facts = Facts {
    name: "http",
    layout: Layout::Records,
    links: Links::Pool,
    acks: Acks::PerItem,
    told: Told::NOTHING,
};

pub(super) type Words = Mute;
