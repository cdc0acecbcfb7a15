//! The windows of a server's clients. A window states how many calls, with how many bytes, a client
//! may have in flight. The client keeps all further calls to itself, so that the server need not
//! refuse them. No I/O, no clock.
//!
//! Every client has the base window, which it need not ask for. All base windows together take at
//! most half of the server's capacity, as long as there are not very many clients. What is left is
//! divided fairly among the clients that ask for more: each gets what it asks for, or as much as
//! any other.
//!
//! Windows are divided anew at most once in each turn of an event loop, however many clients ask, and
//! a client has at most one window on its way to it.
//!
//! A client that is told of a smaller window confirms it once it has no more calls in flight than
//! that. Until then, what it may still have in flight is not given to others.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    protocol::control::Window,
    server::completion::{Completion, CompletionQueue, WindowId},
    transport::ReplyTo,
    util::{fair_share::reserve_of, slab::Slab},
};

/// The largest base window in calls: enough to keep a server busy with small calls.
const MAX_BASE_CALLS: usize = 1_024;
/// The smallest base window in calls, so that a small burst need not wait for a larger window.
const MIN_BASE_CALLS: usize = 16;
const MAX_BASE_BYTES: usize = 16 * 1024 * 1024;
const MIN_BASE_BYTES: usize = 256 * 1024;

/// The windows of all clients of a server, over all its listeners.
#[derive(Debug, Clone)]
pub(crate) struct Windows(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// True if clients came, went or asked since the windows were last divided.
    changed: AtomicBool,
}

/// The window of one client, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct ClientWindow {
    windows: Windows,
    id: u32,
}

/// The place to which a client's windows are sent: the event loop that it is connected to, and its
/// return address.
#[derive(Debug, Clone)]
struct Address {
    queue: CompletionQueue,
    client: ReplyTo,
}

impl Windows {
    /// Makes the windows of a server that admits `calls` requests with `bytes` bytes. The reserve
    /// of the admission control is not given away.
    pub(crate) fn new(calls: usize, bytes: usize) -> Self {
        let limits = [calls, bytes].map(|limit| limit - reserve_of(limit));
        Self::with_table(Table::new(limits))
    }

    fn with_table(table: Table) -> Self {
        Self(Arc::new(Shared { table: Mutex::new(table), changed: AtomicBool::new(false) }))
    }

    /// Adds a client, and returns its first window. The event loop of `queue` sends it the next
    /// ones.
    pub(crate) fn open(&self, client: ReplyTo, queue: CompletionQueue) -> (ClientWindow, Window) {
        let (id, window) = self.change().open(Address { queue, client });
        (ClientWindow { windows: self.clone(), id }, window)
    }

    /// Divides the capacity anew, if clients came, went or asked.
    pub(crate) fn divide(&self) {
        // A change that is missed here is found in the next turn of the event loop that makes it.
        if self.0.changed.load(Ordering::Relaxed) {
            let mut table = self.lock();
            self.0.changed.store(false, Ordering::Relaxed);
            table.divide();
        }
    }

    /// Returns the window that a client is to be sent, and its address. `None` if it has gone.
    pub(crate) fn take(&self, id: WindowId) -> Option<(ReplyTo, Window)> {
        let mut table = self.lock();
        let client = table.clients.get_mut(id.0)?;
        client.is_on_its_way = false;
        for share in &mut client.shares {
            share.held = share.held.max(share.stated);
        }
        Some((client.address.client.clone(), client.window()))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock for a change after which the windows are to be divided anew.
    fn change(&self) -> MutexGuard<'_, Table> {
        let table = self.lock();
        self.0.changed.store(true, Ordering::Relaxed);
        table
    }
}

impl ClientWindow {
    /// Notes the window that the client asks for, and the number of the window that it keeps to.
    pub(crate) fn handle_report(&self, report: Window) {
        self.windows.change().handle_report(self.id, report);
    }
}

impl Drop for ClientWindow {
    fn drop(&mut self) {
        self.windows.change().clients.remove(self.id);
    }
}

/// The resources that a window limits.
const CALLS: usize = 0;
const BYTES: usize = 1;
const RESOURCES: [usize; 2] = [CALLS, BYTES];

#[derive(Debug)]
struct Table {
    /// The capacity that is given away, of each resource.
    limits: [usize; 2],
    clients: Slab<Client>,
    /// The base window.
    base: [usize; 2],
    /// The clients that ask for more than the base window, or that hold more.
    asking: Vec<u32>,
}

#[derive(Debug)]
struct Client {
    address: Address,
    /// The number of the window that was stated last.
    number: u32,
    /// True if the event loop was told that the window has changed, and has not sent it yet.
    is_on_its_way: bool,
    /// True if the client is in [`Table::asking`].
    asks: bool,
    shares: [Share; 2],
}

/// The part of a resource that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    wanted: usize,
    /// The amount that was stated last.
    stated: usize,
    /// The most that the client may use by the windows that it was sent, until it has confirmed the
    /// last one. A window that is replaced before it is sent counts for nothing: the client never
    /// confirms it.
    held: usize,
}

impl Table {
    fn new(limits: [usize; 2]) -> Self {
        Self { limits, clients: Slab::new(), base: base(limits, 1), asking: Vec::new() }
    }

    fn open(&mut self, address: Address) -> (u32, Window) {
        let base = base(self.limits, self.clients.len() + 1);
        let shares = base.map(|base| Share { wanted: 0, stated: base, held: base });
        let client = Client { address, number: 0, is_on_its_way: false, asks: false, shares };
        let window = client.window();
        (self.clients.insert(client), window)
    }

    fn handle_report(&mut self, id: u32, report: Window) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let confirms = report.number == client.number;
        for (share, wanted) in client.shares.iter_mut().zip([report.calls, report.bytes]) {
            share.wanted = wanted;
            if confirms {
                share.held = share.stated;
            }
        }
        if !std::mem::replace(&mut client.asks, true) {
            self.asking.push(id);
        }
    }

    /// Divides the capacity anew, and states the windows that have changed.
    fn divide(&mut self) {
        let base = base(self.limits, self.clients.len());
        let asking = std::mem::take(&mut self.asking);
        let ids = if base == self.base {
            asking
        } else {
            self.clients.iter_mut().map(|(id, _)| id).collect()
        };
        self.base = base;
        let mut clients: Vec<_> = ids.iter().map(|id| (*id, self.shares(*id))).collect();
        clients.retain(|(_, shares)| shares.is_some());
        for resource in RESOURCES {
            let shares = clients.iter_mut().filter_map(|(_, shares)| shares.as_mut());
            let shares: Vec<_> = shares.map(|shares| &mut shares[resource]).collect();
            let (limit, base) = (self.limits[resource], base[resource]);
            let idle = self.clients.len().saturating_mul(base).min(half(limit));
            divide(limit.saturating_sub(idle), base, shares);
        }
        for (id, shares) in clients {
            let (Some(shares), Some(client)) = (shares, self.clients.get_mut(id)) else { continue };
            client.set(shares, WindowId(id));
            let asks = |(share, base): (&Share, usize)| share.wanted.max(share.held) > base;
            client.asks = shares.iter().zip(base).any(asks);
            if client.asks {
                self.asking.push(id);
            }
        }
    }

    fn shares(&mut self, id: u32) -> Option<[Share; 2]> {
        self.clients.get_mut(id).map(|client| client.shares)
    }
}

impl Client {
    fn window(&self) -> Window {
        let [calls, bytes] = self.shares.map(|share| share.stated);
        Window { number: self.number, calls, bytes }
    }

    /// Sets the shares. If the window has changed, it is sent to the client.
    fn set(&mut self, shares: [Share; 2], id: WindowId) {
        let before = self.window();
        self.shares = shares;
        if self.window() != before {
            self.number = self.number.wrapping_add(1);
            if !std::mem::replace(&mut self.is_on_its_way, true) {
                self.address.queue.send(Completion::Window(id));
            }
        }
    }
}

/// Returns the base window of each of `clients` clients. It is a power of two, so that it changes
/// seldom.
fn base(limits: [usize; 2], clients: usize) -> [usize; 2] {
    let part = |resource: usize, least, most| {
        let limit: usize = limits[resource];
        let part = limit / clients.max(1).saturating_mul(2);
        let rounded = 1_usize << part.max(1).ilog2();
        rounded.clamp(least, most).min(half(limit))
    };
    [part(CALLS, MIN_BASE_CALLS, MAX_BASE_CALLS), part(BYTES, MIN_BASE_BYTES, MAX_BASE_BYTES)]
}

/// Returns the half of a limit that all base windows may take together.
fn half(limit: usize) -> usize {
    (limit / 2).max(1)
}

/// Divides a pool of one resource among clients, each of which has the base window as well.
fn divide(pool: usize, base: usize, shares: Vec<&mut Share>) {
    let wanted = shares.iter().map(|share| share.wanted.saturating_sub(base));
    let most = fair_part(pool, wanted.collect());
    let held: usize = shares.iter().map(|share| share.held.saturating_sub(base)).sum();
    let mut free = pool.saturating_sub(held);
    for share in shares {
        let target = share.wanted.clamp(base, base.saturating_add(most));
        let possible = share.held.max(base).saturating_add(free);
        let stated = target.min(possible);
        free -= stated.saturating_sub(share.held.max(base));
        share.stated = stated;
    }
}

/// Returns the largest amount that each may have of a `pool`, such that those who want less get
/// what they want, and the others the same amount (max-min fairness). There is no limit if all get
/// what they want.
fn fair_part(mut pool: usize, mut wanted: Vec<usize>) -> usize {
    wanted.sort_unstable();
    let mut left = wanted.len();
    for wanted in wanted {
        let part = pool / left;
        if wanted >= part {
            return part;
        }
        pool -= wanted;
        left -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests;
