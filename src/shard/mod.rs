//! One shard per core: event loop, listeners, links.
