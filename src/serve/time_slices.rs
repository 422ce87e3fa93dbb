//! Time slices of a core (cooperative scheduling). What takes a core long is done in slices, with a look at sockets between any two of
//! them, so that whoever has little to ask waits for one slice at most; whoever begins goes before those who have had some.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct TimeSlices {
    /// There was one since the core has last looked at its sockets, or it is kept for somebody.
    is_taken: bool,
    /// For whoever waits there at this place.
    reserved: Option<Place>,
    beginning: Line,
    going_on: Line,
}

/// In the order in which they came.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waker>,
    /// How many have left it.
    left: u64,
}

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    begins: bool,
    /// How many were to leave before it did.
    number: u64,
}

thread_local! {
    static TIME_SLICES: RefCell<TimeSlices> = RefCell::default();
}

impl TimeSlices {
    fn line(&mut self, begins: bool) -> &mut Line {
        if begins { &mut self.beginning } else { &mut self.going_on }
    }

    fn enter(&mut self, begins: bool, waker: &Waker) -> Place {
        let line = self.line(begins);
        line.waiting.push_back(waker.clone());
        Place { begins, number: line.left + line.waiting.len() as u64 }
    }

    fn is_waiting(&mut self, place: Place) -> bool {
        place.number > self.line(place.begins).left
    }

    /// Keeps the slice for who is next.
    fn pass_on(&mut self) -> Option<Waker> {
        for begins in [true, false] {
            let line = self.line(begins);
            if let Some(waker) = line.waiting.pop_front() {
                line.left += 1;
                self.reserved = Some(Place { begins, number: self.line(begins).left });
                return Some(waker);
            }
        }
        (self.is_taken, self.reserved) = (false, None);
        None
    }
}

/// Ready when it is the caller's time, whose `place` is where it has waited until then.
pub(super) fn poll_time_slice(cx: &mut Context<'_>, place: &mut Option<Place>, begins: bool) -> Poll<()> {
    TIME_SLICES.with_borrow_mut(|slices| {
        if place.is_some() && slices.reserved == *place {
            slices.reserved = None;
        } else if slices.is_taken {
            if !place.is_some_and(|place| slices.is_waiting(place)) {
                *place = Some(slices.enter(begins, cx.waker()));
            }
            return Poll::Pending;
        } else {
            slices.is_taken = true;
            tokio::spawn(pass_on());
        }
        *place = None;
        Poll::Ready(())
    })
}

/// Passes the slice on until nobody waits. If whoever it was kept for has left meanwhile, nobody has that one.
async fn pass_on() {
    loop {
        // Until the core has looked at its sockets and done what that brings.
        tokio::task::yield_now().await;
        match TIME_SLICES.with_borrow_mut(TimeSlices::pass_on) {
            Some(next) => next.wake(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};

    #[test]
    fn slices_go_round_and_whoever_begins_is_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let seen = Arc::new(Mutex::new(Vec::new()));
        runtime.block_on(async {
            let work = |name: &'static str, begins: bool, slices: usize| {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut place = None;
                    for _ in 0..slices {
                        poll_fn(|cx| poll_time_slice(cx, &mut place, begins)).await;
                        seen.lock().expect("nobody has panicked").push(name);
                    }
                })
            };
            let all = [work("a", false, 3), work("b", false, 3), work("new", true, 1)];
            for one in all {
                one.await.expect("it ends");
            }
        });
        assert_eq!(seen.lock().expect("nobody has panicked").join(" "), "a new a b a b b");
    }

    #[test]
    fn who_has_left_holds_up_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            assert!(poll_fn(|cx| Poll::Ready(poll_time_slice(cx, &mut None, true))).await.is_ready());
            let mut place = None;
            for _ in 0..3 {
                assert!(poll_fn(|cx| Poll::Ready(poll_time_slice(cx, &mut place, true))).await.is_pending());
            }
            assert_eq!(
                TIME_SLICES.with_borrow(|slices| slices.beginning.waiting.len()),
                1,
                "once, however often it asks"
            );
            // It does not come, and the next one has its slice all the same.
            let mut place = None;
            tokio::spawn(async move { poll_fn(|cx| poll_time_slice(cx, &mut place, false)).await })
                .await
                .expect("it ends");
        });
    }
}
