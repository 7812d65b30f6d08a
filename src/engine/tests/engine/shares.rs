//! Exact shares through the whole engine, not only the tree.

use weir_engine::{Engine, Ingest, Port, VecMemory};

use weir_testkit::rig::{config, plain_roster, BUFFER_BYTES, SHARD};
use weir_testkit::wire::frame_of;

const MESSAGES: usize = 1_000_003;
const WEIGHTS: [f64; 4] = [0.4, 0.3, 0.2, 0.1];

#[test]
fn a_million_single_messages_are_shared_within_two() {
    let config = config(256, 3000);
    let memory = VecMemory::new(256, BUFFER_BYTES as usize);
    let mut engine = Engine::new(config, memory);
    let (roster, epochs) = plain_roster(SHARD, &WEIGHTS);
    assert!(engine.apply_roster(&roster, |_| None));
    engine.emitter_opened(0, &Port::emitters().into());

    let frame = frame_of(3, b"one");
    let mut left = MESSAGES;
    while left > 0 {
        let messages = left.min(997);
        assert_eq!(engine.ingest(0, &frame.repeat(messages)), Ingest::Taken);
        left -= messages;
        for epoch in &epochs {
            let lane = engine.lane_of(*epoch).expect("it is up");
            while let Some(range) = engine.transmit(lane, 0, false) {
                engine.acked(lane, range.messages, 1);
            }
        }
    }
    for (weight, report) in WEIGHTS.iter().zip(engine.lane_reports()) {
        let exact = MESSAGES as f64 * weight;
        let off = report.acked as f64 - exact;
        assert!(off.abs() <= 2.0, "weight {weight}: {off} messages off");
    }
    assert_eq!(engine.balance().acked, MESSAGES as u64);
}
