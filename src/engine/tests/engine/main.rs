//! The engine through its public calls: single stories in `cases`, thousands of random ones in
//! `model`. Both go through the rig of `testkit`, which plays emitters, kernel and analyzers and checks every step.

mod cases;
mod limits;
mod model;
mod partial;
mod shares;
