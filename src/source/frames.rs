//! Weir's own frames: `[u32 BE total length][u8 severity][payload]`. They go into lanes as they lie.

use super::{Element, Limits, Port, Source, SourceError, Step};
use std::sync::Arc;
use weir_protocol::frame;

/// The length word is looked at as soon as it is there.
const LENGTH_BYTES: usize = 4;

/// A stream of frames. Every frame says its own length, so there is nothing to remember.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Source for Frames {
    fn start(_: &Arc<Port>) -> Frames {
        Frames
    }

    fn begins(first: &[u8], limits: Limits) -> Result<bool, SourceError> {
        let length = frame::peek(first, limits.frame_bytes_max);
        Ok(length.map_err(SourceError::Frame)?.is_some())
    }

    #[inline]
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        match frame::peek(bytes, limits.frame_bytes_max) {
            Ok(Some(used)) => match bytes.split_at_checked(used) {
                Some((frame, _)) => Ok(Step::Element {
                    used,
                    element: Element::Frame(frame),
                }),
                None => Ok(Step::NeedMore { bytes: used }),
            },
            Ok(None) => Ok(Step::NeedMore {
                bytes: LENGTH_BYTES,
            }),
            Err(error) => Err(SourceError::Frame(error)),
        }
    }
}
