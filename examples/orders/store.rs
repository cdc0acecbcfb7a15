//! The orders in `SQLite`.

use std::{path::Path, sync::Mutex, time::Duration};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

/// An order, as the controller hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) item: String,
    pub(crate) quantity: u32,
}

/// An order that is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) order: Order,
    /// The node that has stored it.
    pub(crate) node: String,
    /// The number of times that it was handed to a node. Only the first time has stored it.
    pub(crate) deliveries: u32,
}

/// The `SQLite` file that all nodes share.
pub(crate) struct Store(Mutex<Connection>);

/// The time for which a node waits for the others to write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // What is committed survives the death of any process. For the loss of power as well, set
        // `synchronous` to `FULL`, which is slower.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute(
            "CREATE TABLE IF NOT EXISTS orders (
                id INTEGER PRIMARY KEY,
                item TEXT NOT NULL,
                quantity INTEGER NOT NULL,
                node TEXT NOT NULL,
                deliveries INTEGER NOT NULL
            )",
            (),
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Stores an order, unless it is stored already. Returns true if it was not.
    pub(crate) fn add(&self, order: &Order, node: &str) -> rusqlite::Result<bool> {
        let mut connection = self.lock();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = "SELECT deliveries FROM orders WHERE id = ?1";
        let known: Option<u32> =
            change.query_row(known, params![order.id], |row| row.get(0)).optional()?;
        match known {
            Some(deliveries) => change.execute(
                "UPDATE orders SET deliveries = ?2 WHERE id = ?1",
                params![order.id, deliveries + 1],
            )?,
            None => change.execute(
                "INSERT INTO orders VALUES (?1, ?2, ?3, ?4, 1)",
                params![order.id, order.item, order.quantity, node],
            )?,
        };
        change.commit()?;
        Ok(known.is_none())
    }

    /// Returns up to `count` stored orders whose ids are `from` or more.
    pub(crate) fn list(&self, from: u32, count: u32) -> rusqlite::Result<Vec<Stored>> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(
            "SELECT id, item, quantity, node, deliveries FROM orders WHERE id >= ?1 ORDER BY id \
             LIMIT ?2",
        )?;
        let stored = select.query_map(params![from, count], |row| {
            let order = Order { id: row.get(0)?, item: row.get(1)?, quantity: row.get(2)? };
            Ok(Stored { order, node: row.get(3)?, deliveries: row.get(4)? })
        })?;
        stored.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // `SQLite` rolls back what a panic has interrupted.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
