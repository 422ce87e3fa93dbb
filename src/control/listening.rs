//! The addresses we listen on, from one snapshot to the next: what is new is opened before the swap, what stays keeps its
//! sockets, and what goes is passed on or closed after it.

use super::reading::ReloadRefused;
use super::{Control, ListenKey, ListeningSockets};
use crate::config::plan::Transport;
use crate::edge::{self, Accept, Inherited, ListenerState, WorkerCommand};
use crate::snapshot::Snapshot;
use crate::tls::Termination;
use crate::units::Address;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{error, info};

impl Control {
    /// Opens the addresses that are not open yet, or takes them from those that were open before us; unix sockets are open
    /// already, because that may take long.
    pub(super) fn open_new(
        &self,
        next: &Snapshot,
        inherited: &mut Inherited,
        mut unix_sockets: HashMap<PathBuf, edge::Bound>,
    ) -> Result<HashMap<ListenKey, edge::Bound>, ReloadRefused> {
        let mut opened = HashMap::new();
        for listener in next.listeners() {
            let name = &listener.plan.name;
            let transport = listener.plan.protocol.transport();
            for address in &listener.plan.addresses {
                let key = ListenKey { listener: name.clone(), address: address.clone(), transport };
                let lingers = transport == Transport::Datagram && self.lingering.contains_key(address);
                if self.bound.contains_key(&key) || lingers || self.moved(next, address, transport).is_some()
                {
                    continue;
                }
                let workers = self.workers.count();
                let passed = inherited.claim(name, address, transport, workers);
                let bind = || match address {
                    // `UnixSockets::open` opened each of them.
                    Address::Unix(path) => unix_sockets.remove(path).ok_or(io::ErrorKind::NotFound.into()),
                    Address::Inet(inet) => match self.has_beside(next, address, transport, inherited) {
                        true => edge::bind_beside_own(*inet, transport, workers),
                        false => edge::bind(*inet, transport, workers),
                    },
                };
                match passed.transpose().unwrap_or_else(bind) {
                    Ok(bound) => {
                        opened.insert(key, bound);
                    }
                    Err(error) => {
                        let (listener, address) = (name.clone(), address.clone());
                        return Err(ReloadRefused::Listen { listener, address, error });
                    }
                }
            }
        }
        Ok(opened)
    }

    /// Whether we have sockets ourselves that overlap an address and that this snapshot gives up.
    fn has_beside(
        &self,
        next: &Snapshot,
        address: &Address,
        transport: Transport,
        inherited: &Inherited,
    ) -> bool {
        let of_listeners = self.bound.keys().any(|key| {
            key.transport == transport
                && key.address != *address
                && key.address.overlaps(address)
                && !keeps(next, key)
        });
        let moved = self.moved_away.iter().map(|(moved, _)| moved);
        let lingers = || self.lingering.keys().chain(moved).any(|lingering| lingering.overlaps(address));
        of_listeners
            || transport == Transport::Datagram && lingers()
            || inherited.overlaps(address, transport)
    }

    /// An open address that its listener gives up and another may have, sockets and all.
    fn moved(&self, next: &Snapshot, address: &Address, transport: Transport) -> Option<ListenKey> {
        if matches!(address, Address::Inet(inet) if inet.port() == 0) {
            return None;
        }
        let is_it =
            |key: &&ListenKey| key.address == *address && key.transport == transport && !keeps(next, key);
        self.bound.keys().find(is_it).cloned()
    }

    /// An open address for a listener that has it from now on: one that another gives up, or one that nobody had
    /// any more.
    fn take_open(&mut self, next: &Snapshot, key: &ListenKey) -> Option<ListeningSockets> {
        let ListenKey { listener: name, address, transport } = key;
        if let Some(moved) = self.moved(next, address, *transport).and_then(|from| self.bound.remove(&from)) {
            self.stop_accepting(next, &moved);
            info!(listener = %name, %address, from = %moved.listener_state.name, "listening");
            return Some(moved);
        }
        if *transport != Transport::Datagram {
            return None;
        }
        let lingering = self.lingering.remove(address)?;
        info!(listener = %name, %address, "listening");
        Some(lingering)
    }

    pub(super) fn update_listener_states(
        &mut self,
        next: &Snapshot,
        mut opened: HashMap<ListenKey, edge::Bound>,
        terminations: Vec<Option<Arc<Termination>>>,
    ) {
        let mut listener_states = Vec::with_capacity(next.listeners().len());
        for (listener, tls) in next.listeners().iter().zip(terminations) {
            let plan = &listener.plan;
            let kept = self.bound.values().find(|bound| bound.listener_state.id == listener.id);
            let listener_state = match kept {
                Some(bound) => {
                    bound.listener_state.change(plan.clone(), tls);
                    Arc::clone(&bound.listener_state)
                }
                None => ListenerState::new(listener.id, plan.clone(), tls),
            };
            listener_states.push(Arc::clone(&listener_state));
            for address in &plan.addresses {
                let key = ListenKey {
                    listener: plan.name.clone(),
                    address: address.clone(),
                    transport: plan.protocol.transport(),
                };
                if self.bound.contains_key(&key) {
                    continue;
                }
                let place = self.next_place;
                self.next_place += 1;
                let bound = match opened.remove(&key) {
                    Some(new) => {
                        info!(listener = %plan.name, address = %new.address, "listening");
                        let held = Arc::default();
                        ListeningSockets {
                            place,
                            listener_state: Arc::clone(&listener_state),
                            sockets: new.sockets,
                            held,
                            file: new.file,
                        }
                    }
                    None => {
                        let Some(mut moved) = self.take_open(next, &key) else {
                            // `open_new` opened or found each of them.
                            error!(listener = %plan.name, %address, "an address is neither open nor moved");
                            continue;
                        };
                        moved.place = place;
                        moved.listener_state = Arc::clone(&listener_state);
                        moved
                    }
                };
                self.bound.insert(key.clone(), bound);
                match &mut self.held_back {
                    Some(held_back) => held_back.push(key),
                    None => self.accept(&key),
                }
            }
        }
        self.close_old(next);
        self.listener_states.set(listener_states);
    }

    fn close_old(&mut self, next: &Snapshot) {
        let old: Vec<ListenKey> = self.bound.keys().filter(|key| !keeps(next, key)).cloned().collect();
        for key in old {
            let Some(bound) = self.bound.remove(&key) else { continue };
            let is_covered =
                |other: &ListenKey| other.transport == key.transport && other.address.overlaps(&key.address);
            if key.transport == Transport::Datagram && self.bound.keys().any(is_covered) {
                // What overlaps it has its clients from now on.
                let place = bound.place;
                self.workers.tell_all(|| WorkerCommand::MoveDatagrams { place });
                if next.listener(bound.listener_state.id).is_none() {
                    bound.listener_state.close();
                }
                info!(listener = %key.listener, address = %key.address, "no longer listening");
                self.moved_away.push((key.address, bound.held));
                continue;
            }
            self.stop_accepting(next, &bound);
            info!(listener = %key.listener, address = %key.address, "no longer listening");
            if key.transport == Transport::Datagram {
                self.lingering.insert(key.address, bound);
            }
        }
    }

    /// Nothing more is accepted in this listener's name; if it is gone, its connections end as soon as they may.
    fn stop_accepting(&self, next: &Snapshot, bound: &ListeningSockets) {
        let place = bound.place;
        self.workers.tell_all(|| WorkerCommand::Close { place });
        if next.listener(bound.listener_state.id).is_none() {
            bound.listener_state.close();
            let listener = bound.listener_state.id;
            self.workers.tell_all(|| WorkerCommand::CloseIdle { listener });
        }
    }

    /// Has the workers accept on an open address.
    pub(super) fn accept(&self, key: &ListenKey) {
        let Some(bound) = self.bound.get(key) else { return };
        // There may be more sockets than workers, when a process with more of them has passed them on.
        for (n, socket) in bound.sockets.iter().enumerate() {
            let worker = n % self.workers.count();
            match socket.try_clone() {
                Ok(socket) => {
                    let (place, listener_state, held) =
                        (bound.place, Arc::clone(&bound.listener_state), Arc::clone(&bound.held));
                    self.workers
                        .order(worker, WorkerCommand::Accept(Accept { place, socket, listener_state, held }));
                }
                Err(error) => {
                    error!(listener = %key.listener, address = %key.address, %error, "a worker cannot accept")
                }
            }
        }
    }
}

fn keeps(next: &Snapshot, ListenKey { listener: name, address, transport }: &ListenKey) -> bool {
    next.listeners().iter().any(|listener| {
        let plan = &listener.plan;
        plan.name == *name && plan.protocol.transport() == *transport && plan.addresses.contains(address)
    })
}
