//! Building blocks that know nothing of RPC. Any other network program could use them as well.

pub(crate) mod cut;
pub(crate) mod deadline;
pub(crate) mod doublings;
pub(crate) mod fair_queue;
pub(crate) mod fair_share;
pub(crate) mod fnv;
pub(crate) mod gauged;
pub(crate) mod home_process;
pub(crate) mod io_thread;
pub(crate) mod item_turn;
pub(crate) mod panics;
pub(crate) mod park;
pub(crate) mod setters;
pub(crate) mod slab;
pub(crate) mod wakers;
pub(crate) mod worker_waits;
pub(crate) mod yield_budget;
