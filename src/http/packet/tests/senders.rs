//! What other programs send.

use super::*;

#[test]
fn what_other_programs_send_is_taken() {
    let marked = parse("\u{feff} {\"emitterId\":7,\"messages\":[{\"level\":50,\"source\":8}]}");
    assert_eq!(marked.emitter_id(), "7");
    let found = &frames(&marked)[0];
    assert_eq!(
        (found.0, &found.1["level"], &found.1["source"]),
        (1, &json!(50), &json!(8)),
        "a number stays one"
    );
    assert_eq!(posted(&marked)["emitterId"], json!(7));
    let lines = lines("\u{feff}{\"level\":\"CRITICAL\"}\n\u{feff}{\"level\":\"emerg\"}\n");
    let severities: Vec<u8> = frames(&lines).iter().map(|frame| frame.0).collect();
    assert_eq!(severities, [0, 0]);
    assert_eq!(lines.unknown_levels(), None);
}

#[test]
fn a_level_that_is_not_known_is_said() {
    let packet = parse(
        r#"{"emitterId":"a","messages":[{},{"level":null},{"level":""},{"level":"loud"},{"level":8},{"level":"info"}]}"#,
    );
    assert_eq!(packet.unknown_levels(), Some((2, "\"loud\"")));
    assert!(frames(&packet).iter().all(|(severity, _)| *severity == 3));
}
