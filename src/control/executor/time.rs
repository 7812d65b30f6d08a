//! Waiting on the executor: for a while, for a turn of all others, for something within a limit.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;
use weir_clock::Limit;

/// Not before this has passed.
pub async fn sleep(time: Duration) {
    Timer::new(time).await;
}

/// Lets all others have their turn. A task that is never pending would keep the executor from its sockets.
pub async fn give_way() {
    sleep(Duration::from_micros(1)).await;
}

/// What a future returns, if that comes within the limit: what has arrived counts, even if this process stood still
/// meanwhile.
pub async fn within<T>(limit: &mut Limit, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    while let Some(slice) = limit.slice() {
        let done = async { Some(future.as_mut().await) };
        let late = async {
            sleep(slice).await;
            None
        };
        if let Some(done) = or(done, late).await {
            return Some(done);
        }
    }
    None
}
