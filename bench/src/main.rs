//! Measures Weir beside a bare relay.

fn main() {}
