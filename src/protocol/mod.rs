//! Wire formats: emitter frames, analyzer control dialects, the native link protocol.
