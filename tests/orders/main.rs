//! The example `orders` as a whole: its nodes are killed at every step of an order, and each order is
//! stored once all the same.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use tests::{process::examples, rabbitmq::RabbitMq, unique};

fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| examples(&["--features", "orders,amqp"])).join("orders")
}

/// A file for orders, which is removed with its neighbors.
struct Store(PathBuf);

impl Store {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique());
        std::fs::create_dir(&folder).unwrap();
        Self(folder.join("orders.sqlite"))
    }

    /// Runs the example, and returns what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(program()).arg("--store").arg(&self.0).args(arguments).output();
        let output = output.unwrap();
        let (out, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
        let errors = String::from_utf8_lossy(&errors);
        assert!(output.status.success(), "{arguments:?}: {out}{errors}");
        out
    }

    /// Runs the example with so many orders, and makes sure that each is stored once. Returns the
    /// transcript.
    fn process(&self, orders: u32, arguments: &[&str]) -> String {
        let count = orders.to_string();
        let transcript = self.run(&[&["--orders", &count], arguments].concat());
        let (handed_out, stored) =
            (format!("Handed out {orders} "), format!(" {orders} are stored: "));
        assert!(transcript.contains(&handed_out) && transcript.contains(&stored), "{transcript}");
        let list = self.run(&["--list"]);
        let ids = list.lines().filter_map(|line| line.split_once(": ")?.0.parse::<u32>().ok());
        assert!(ids.eq(1..=orders), "{list}");
        transcript
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn count(transcript: &str, text: &str) -> usize {
    transcript.matches(text).count()
}

#[test]
fn each_of_many_orders_is_stored_once() {
    let store = Store::new();
    let transcript = store.process(20_000, &["--kill", "6"]);
    assert_eq!(count(&transcript, "Killing node-"), 6, "{transcript}");
    assert_eq!(count(&transcript, "has died (signal: 9"), 6, "{transcript}");
    assert_eq!(count(&transcript, "Starting node-"), 9, "{transcript}");
    assert_eq!(count(&transcript, "Ending node-"), 3, "{transcript}");
    // All of them once more: nothing is stored a second time.
    let again = store.process(20_000, &["--kill", "0"]);
    assert!(again.contains("stored once: 20000 (20000 answered so)"), "{again}");
}

/// A node that dies at each step of an order: where, and whether an order
/// must come once more. Others may, too: those that the node had at that moment.
const STEPS: [(&str, bool); 3] =
    [("500:received", false), ("500:stored", true), ("500:answered", false)];

fn node_dies_at_every_step(arguments: &[&str]) {
    for (step, must_come_again) in STEPS {
        let store = Store::new();
        let arguments = [&["--kill", "0", "--die", step], arguments].concat();
        let transcript = store.process(2_000, &arguments);
        assert_eq!(count(&transcript, "node-1 has died"), 1, "{transcript}");
        if must_come_again {
            assert!(!transcript.contains("were stored once: 0 "), "{step}: {transcript}");
        }
    }
}

#[test]
fn node_dies_at_every_step_over_tcp() {
    node_dies_at_every_step(&[]);
}

#[test]
#[ignore = "needs RabbitMQ"]
fn nodes_die_while_a_broker_hands_out_orders() {
    let broker = RabbitMq::start("");
    let store = Store::new();
    let transcript = store.process(2_000, &["--broker", &broker.endpoint()]);
    assert_eq!(count(&transcript, "Killing node-"), 2, "{transcript}");
    let endpoint = broker.endpoint();
    node_dies_at_every_step(&["--broker", &endpoint]);
}
