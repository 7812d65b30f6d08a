//! What programs of others would write for `weir audit`, if they wrote run reports.

/// A sender's: it gave this many messages to its kernel whole, on one connection. `numbered`: its stream is `ID/0`, and
/// journals have its messages by their numbers from 1.
pub fn emitter(id: &str, messages: u64, numbered: bool) -> String {
    let never = "2026-01-01T00:00:00.000000000Z";
    format!(
        r#"{{"certificate":{{"version":3,"kind":"emitter"}},
        "run":{{"weir":"none","started":"{never}","ended":"{never}","started_mono_ns":0,"ended_mono_ns":0}},
        "id":"{id}","numbered":{numbered},
        "sent":{{"messages":{messages},"bytes":0,"connected":1,"broken":0,"farewells":0,"reconnects":0,"unsent":0,"unconfirmed":0}},
        "streams":[{{"stream":"{id}/0","given":[[1,{messages}]],"maybe_lost":[],"resent":[]}}]}}"#
    )
}
