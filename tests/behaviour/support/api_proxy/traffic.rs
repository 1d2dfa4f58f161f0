//! The requests so far, and which of them were under way at the same time.

use std::sync::{Arc, Mutex};

use super::request::ApiRequest;

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request.
    pub request: ApiRequest,
    /// The status of the answer; `None` where there is none, or none yet.
    pub status: Option<u16>,
    /// When it came. Each beginning and each end has a number of its own, in the order in which they happened.
    pub began: u64,
    /// When its answer was complete or its connection was closed.
    pub ended: Option<u64>,
}

#[derive(Default)]
struct Noted {
    clock: u64,
    exchanges: Vec<Exchange>,
}

impl Noted {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// All requests so far.
#[derive(Default)]
pub struct Traffic(Mutex<Noted>);

impl Traffic {
    /// Notes a request, which is under way until the answer is dropped.
    pub fn begin(self: &Arc<Self>, request: ApiRequest) -> UnderWay {
        let mut noted = self.0.lock().unwrap();
        let began = noted.tick();
        noted.exchanges.push(Exchange { request, status: None, began, ended: None });
        UnderWay { traffic: self.clone(), index: noted.exchanges.len() - 1 }
    }

    /// The exchanges whose requests are these.
    pub fn exchanges(&self, concerns: impl Fn(&ApiRequest) -> bool) -> Vec<Exchange> {
        let noted = self.0.lock().unwrap();
        noted.exchanges.iter().filter(|exchange| concerns(&exchange.request)).cloned().collect()
    }
}

/// A request that is under way. Dropped, it has ended.
pub struct UnderWay {
    traffic: Arc<Traffic>,
    index: usize,
}

impl UnderWay {
    /// Notes the status of the answer.
    pub fn answered(&self, status: u16) {
        self.traffic.0.lock().unwrap().exchanges[self.index].status = Some(status);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut noted = self.traffic.0.lock().unwrap();
        let ended = noted.tick();
        noted.exchanges[self.index].ended = Some(ended);
    }
}

/// How many of these were under way at once at most.
pub fn most_at_once(exchanges: &[Exchange]) -> usize {
    let began = exchanges.iter().map(|exchange| (exchange.began, true));
    let ended = exchanges.iter().filter_map(|exchange| Some((exchange.ended?, false)));
    let mut moments: Vec<(u64, bool)> = began.chain(ended).collect();
    moments.sort_unstable();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in moments {
        now = if begins { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}
