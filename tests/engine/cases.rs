//! Single stories, each about one promise.

use crate::rig::{config, numbered, Rig};

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
