//! Single stories, each about one promise.

use crate::rig::{config, number_of, numbered, Rig};

#[test]
fn a_frame_in_two_pieces_survives_a_stall_between_them() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    rig.write(emitter, numbered(1, 100));
    assert_eq!(rig.offer(emitter, 60), 60);
    assert_eq!(rig.offer(emitter, 40), 0, "nobody is there to take it");
    assert_eq!(rig.offer(emitter, 1), 0);
    rig.connect_plain(1.0);
    rig.finish();
    assert_eq!(rig.received, 1);
}

#[test]
fn small_messages_behind_a_split_one_are_in_a_batch() {
    let mut rig = Rig::new(config(32, 9000));
    let (emitter, peer) = (rig.emitter(), rig.connect_native(1.0));
    for (number, bytes) in (1..).zip([9000, 20, 30, 9000, 9000, 40]) {
        assert!(rig.send(emitter, numbered(number, bytes)));
    }
    let got = rig.transmit_all(peer, true);
    let numbers: Vec<_> = got.iter().filter_map(|got| number_of(&got.frame)).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    rig.finish();
}
