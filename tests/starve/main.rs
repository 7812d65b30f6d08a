//! Nobody starves others: what a greedy, a silent, a dead or a hidden peer can take from everybody else.
//!
//! ```text
//! addresses.rs     peers that have no address any more
//! answers.rs       HTTP: answers that nobody reads, requests that never end
//! deaths.rs        many analyzers that die at once
//! descriptors.rs   descriptors, divided among kinds
//! gone.rs          peers that are dead while nobody takes messages
//! partial.rs       frames that never end
//! stop.rs          a second SIGTERM
//! ```

mod addresses;
mod answers;
mod deaths;
mod descriptors;
mod gone;
mod partial;
mod stop;
