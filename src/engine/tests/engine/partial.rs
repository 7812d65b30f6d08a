//! Memory for frames that have not arrived whole: it goes to who comes, and from who takes most for longest.

use weir_engine::{EngineConfig, Evicted, Ingest, Reason};

use weir_testkit::rig::{config, numbered, Rig};

const SECOND: u64 = 1_000_000_000;

/// An engine with 3,000 bytes for partial frames, as large as the largest frame.
fn rig() -> Rig {
    let mut rig = Rig::new(EngineConfig {
        partial_bytes_max: 3000,
        ..config(16, 3000)
    });
    rig.connect_plain(1.0);
    rig
}

/// A new emitter that has sent the first `bytes` of a frame.
fn holder(rig: &mut Rig, bytes: usize) -> usize {
    let emitter = rig.emitter();
    let part = &numbered(1, 3000)[..bytes];
    assert_eq!(rig.engine.ingest(emitter, part), Ingest::Taken);
    emitter
}

fn evicted(rig: &mut Rig) -> Vec<(usize, Reason)> {
    let next = || rig.engine.next_evicted();
    std::iter::from_fn(next)
        .map(|Evicted { emitter, reason }| (emitter, reason))
        .collect()
}

#[test]
fn who_comes_last_is_never_the_one_that_goes() {
    let mut rig = rig();
    let old = holder(&mut rig, 2900);
    for round in 1..=100 {
        rig.engine.set_frames_time(round * SECOND);
        let new = holder(&mut rig, 400);
        let gone = evicted(&mut rig);
        if round == 1 {
            assert_eq!(gone, [(old, Reason::PartialMemoryFull)]);
        } else {
            assert!(gone.iter().all(|(emitter, _)| *emitter != new), "{gone:?}");
        }
    }
    // 7 of 400 bytes fit.
    assert_eq!(
        rig.engine.counters.of(Reason::PartialMemoryFull),
        1 + 100 - 7
    );
}

#[test]
fn the_cost_of_a_frame_is_its_bytes_times_its_age() {
    let mut rig = rig();
    let small = holder(&mut rig, 10);
    rig.engine.set_frames_time(100 * SECOND);
    let large = holder(&mut rig, 2000);
    rig.engine.set_frames_time(101 * SECOND);
    let _new = holder(&mut rig, 990);
    assert!(evicted(&mut rig).is_empty(), "all of it is in use");
    rig.engine.set_frames_time(102 * SECOND);
    let _newer = holder(&mut rig, 1);
    assert_eq!(evicted(&mut rig), [(large, Reason::PartialMemoryFull)]);
    rig.engine.set_frames_time(100_000 * SECOND);
    let _rest = holder(&mut rig, 1500);
    rig.engine.set_frames_time(100_001 * SECOND);
    let _more = holder(&mut rig, 600);
    let gone = evicted(&mut rig);
    assert!(
        gone.iter().all(|(emitter, _)| *emitter != small),
        "{gone:?}"
    );
}

#[test]
fn who_takes_most_for_longest_is_refused_itself_and_its_memory_is_given_back() {
    for _ in 0..10 {
        let mut rig = rig();
        let (honest, greedy) = (holder(&mut rig, 1000), holder(&mut rig, 1500));
        rig.engine.set_frames_time(SECOND);
        let more = &numbered(1, 3000)[1500..2100];
        assert_eq!(rig.engine.ingest(greedy, more), Ingest::PartialMemoryFull);
        assert!(evicted(&mut rig).is_empty());
        let rest = &numbered(1, 3000)[1000..];
        assert_eq!(rig.engine.ingest(honest, rest), Ingest::Taken);
        rig.engine.emitter_closed(honest);
        rig.engine.emitter_closed(greedy);
        let count = |reason| rig.engine.counters.of(reason);
        let counts = (count(Reason::PartialMemoryFull), count(Reason::FrameCutOff));
        assert_eq!(counts, (1, 0));
        assert_eq!(rig.engine.balance().received, 1);
    }
}

#[test]
fn a_frame_has_so_much_time_from_its_first_byte_and_the_next_has_its_own() {
    let mut rig = rig();
    let emitter = rig.emitter();
    let frame = numbered(1, 3000);
    rig.engine.set_frames_time(10 * SECOND);
    assert_eq!(rig.engine.ingest(emitter, &frame[..2]), Ingest::Taken);
    rig.engine.set_frames_time(14 * SECOND);
    rig.engine.evict_overdue(5 * SECOND);
    assert!(evicted(&mut rig).is_empty());
    // The rest of it, and the beginning of the next.
    let more = [&frame[2..], &frame[..1]].concat();
    assert_eq!(rig.engine.ingest(emitter, &more), Ingest::Taken);
    rig.engine.set_frames_time(19 * SECOND - 1);
    rig.engine.evict_overdue(5 * SECOND);
    assert!(evicted(&mut rig).is_empty());
    rig.engine.set_frames_time(19 * SECOND);
    rig.engine.evict_overdue(5 * SECOND);
    assert_eq!(evicted(&mut rig), [(emitter, Reason::FrameTimeout)]);
    assert_eq!(rig.engine.counters.of(Reason::FrameTimeout), 1);
    // Between frames there is no time limit.
    let idle = rig.emitter();
    assert_eq!(rig.engine.ingest(idle, &numbered(2, 100)), Ingest::Taken);
    rig.engine.set_frames_time(1_000_000 * SECOND);
    rig.engine.evict_overdue(5 * SECOND);
    assert!(evicted(&mut rig).is_empty());
}
