//! Tests of windows with clients that keep to them, and report as clients do.

use std::collections::VecDeque;

use super::*;

/// A server's windows, and a client of it.
struct Tested {
    windows: Windows,
    queue: CompletionQueue,
}

impl Tested {
    /// Makes a server with capacity for `calls` calls besides the reserve.
    fn new(calls: usize) -> Self {
        let windows = Windows::with_table(Table::new([calls, 1 << 30]));
        Self { windows, queue: CompletionQueue::default() }
    }

    fn open(&self, name: &'static str) -> (ClientWindow, Window) {
        let opened = self.windows.open(ReplyTo::of(&[name, ""]), self.queue.clone());
        self.windows.divide();
        opened
    }

    /// Returns the windows that were sent since the last time, by client.
    fn sent(&self) -> Vec<(String, Window)> {
        self.windows.divide();
        let mut completions = VecDeque::new();
        self.queue.try_recv(&mut completions);
        let window = |completion| match completion {
            Completion::Window(id) => {
                let (client, window) = self.windows.take(id)?;
                Some((String::from_utf8_lossy(client.peer().as_bytes()).into_owned(), window))
            }
            other => panic!("{other:?}"),
        };
        completions.into_iter().filter_map(window).collect()
    }

    /// Returns the numbers of calls in the windows that were sent since the last time.
    fn sent_calls(&self) -> Vec<(String, usize)> {
        self.sent().into_iter().map(|(client, window)| (client, window.calls)).collect()
    }

    /// Returns the number of calls that all clients may have in flight.
    fn held(&self) -> usize {
        let mut table = self.windows.lock();
        table.clients.iter_mut().map(|(_, client)| client.shares[CALLS].held).sum()
    }

    /// Lets every client confirm its window.
    fn confirm(&self) {
        let mut table = self.windows.lock();
        let shares = table.clients.iter_mut().flat_map(|(_, client)| &mut client.shares);
        shares.for_each(|share| share.held = share.stated);
    }
}

fn report(client: &ClientWindow, number: u32, calls: usize) {
    client.handle_report(Window { number, calls, bytes: 0 });
    client.windows.divide();
}

fn calls(client: &str, calls: usize) -> (String, usize) {
    (client.to_owned(), calls)
}

#[test]
fn single_client_gets_all_that_it_asks_for() {
    let tested = Tested::new(10_000);
    let (client, window) = tested.open("a");
    assert_eq!((window.number, window.calls), (0, MAX_BASE_CALLS));
    assert_eq!(tested.sent_calls(), []);
    report(&client, 0, 5_000);
    assert_eq!(tested.sent_calls(), [calls("a", 5_000)]);
    report(&client, 1, 70_000);
    assert_eq!(tested.sent_calls(), [calls("a", 10_000)]);
    report(&client, 2, 1);
    assert_eq!(tested.sent_calls(), [calls("a", MAX_BASE_CALLS)]);
}

#[test]
fn newcomer_gets_its_share_once_it_is_free() {
    let tested = Tested::new(10_000);
    let (first, _) = tested.open("a");
    report(&first, 0, 20_000);
    assert_eq!(tested.sent_calls(), [calls("a", 10_000)]);
    let (second, window) = tested.open("b");
    assert_eq!(window.calls, MAX_BASE_CALLS);
    // The first client gives up the base window of the second.
    assert_eq!(tested.sent_calls(), [calls("a", 10_000 - MAX_BASE_CALLS)]);
    report(&second, 0, 20_000);
    assert_eq!(tested.sent_calls(), [calls("a", 5_000)], "nothing is free for the second yet");
    // A report that was sent before the window arrived confirms nothing.
    report(&first, 2, 20_000);
    assert_eq!(tested.sent_calls(), []);
    report(&first, 3, 20_000);
    assert_eq!(tested.sent_calls(), [calls("b", 5_000)]);
    assert_eq!(tested.held(), 10_000);
}

#[test]
fn window_that_was_replaced_before_it_was_sent_holds_nothing() {
    let tested = Tested::new(10_000);
    let (first, _) = tested.open("a");
    let (second, _) = tested.open("b");
    // The first client would have nearly all, and never hears of it.
    report(&first, 0, 20_000);
    report(&second, 0, 20_000);
    assert_eq!(tested.sent_calls(), [calls("a", 5_000), calls("b", 5_000)]);
    assert_eq!(tested.held(), 10_000);
    // A smaller window that is replaced takes nothing from the client.
    report(&first, 2, 1);
    report(&first, 2, 20_000);
    assert_eq!(tested.sent_calls(), [calls("a", 5_000)]);
    assert_eq!(tested.held(), 10_000);
}

#[test]
fn capacity_of_a_client_that_leaves_goes_to_the_others() {
    let tested = Tested::new(10_000);
    let (first, _) = tested.open("a");
    let (second, _) = tested.open("b");
    report(&first, 0, 20_000);
    report(&second, 0, 20_000);
    tested.sent();
    drop(first);
    assert_eq!(tested.sent_calls(), [calls("b", 10_000)]);
    assert_eq!(tested.windows.lock().clients.len(), 1);
}

#[test]
fn modest_client_gets_what_it_asks_for() {
    let tested = Tested::new(10_000);
    let names = ["a", "b", "c"];
    let clients = names.map(|name| tested.open(name).0);
    for (client, wanted) in clients.iter().zip([2_000, 20_000, 20_000]) {
        report(client, 0, wanted);
    }
    // Each confirms what it was told.
    let mut known = [0; 3];
    loop {
        let sent = tested.sent();
        if sent.is_empty() {
            break;
        }
        for (name, window) in sent {
            let index = names.iter().position(|known| *known == name).unwrap();
            known[index] = window.calls;
            report(&clients[index], window.number, [2_000, 20_000, 20_000][index]);
        }
    }
    assert_eq!(known, [2_000, 4_000, 4_000]);
    assert_eq!(tested.held(), 10_000);
}

#[test]
fn base_windows_shrink_with_the_number_of_clients() {
    let tested = Tested::new(16_000);
    let mut clients = Vec::new();
    let mut last = usize::MAX;
    for _ in 0..100 {
        let (client, window) = tested.open("a");
        clients.push(client);
        assert!(window.calls <= last);
        last = window.calls;
    }
    assert_eq!(last, 64, "a power of two, and at most half of the capacity in all");
    let sent = tested.sent();
    assert!(sent.len() < 300, "windows change seldom: {}", sent.len());
    for _ in 0..2_000 {
        clients.push(tested.open("a").0);
    }
    assert_eq!(tested.open("a").1.calls, MIN_BASE_CALLS);
    // Even with very many clients, half of the capacity is for those that ask.
    let (asks, _) = tested.open("b");
    tested.confirm();
    tested.sent();
    report(&asks, 0, 20_000);
    assert_eq!(tested.sent_calls(), [calls("b", 8_000 + MIN_BASE_CALLS)]);
}

#[test]
fn bytes_are_divided_as_calls_are() {
    let windows = Windows::with_table(Table::new([1_000, 64 << 20]));
    let tested = Tested { windows, queue: CompletionQueue::default() };
    let (client, window) = tested.open("a");
    assert_eq!(window.bytes, MAX_BASE_BYTES);
    client.handle_report(Window { number: 0, calls: 1, bytes: usize::MAX });
    assert_eq!(tested.sent()[0].1.bytes, 64 << 20);
}

#[test]
fn many_reports_cause_one_window_for_each_client() {
    let tested = Tested::new(100_000);
    let clients: Vec<_> = (0..1_000).map(|_| tested.open("a").0).collect();
    for client in &clients {
        client.handle_report(Window { number: 0, calls: 5_000, bytes: 0 });
    }
    tested.confirm();
    tested.sent();
    // As often as a client may ask in one batch. The server divides now and then meanwhile.
    for n in 0..1_000 {
        clients[0].handle_report(Window { number: 0, calls: n % 2 * 50_000, bytes: 0 });
        if n % 100 == 0 {
            tested.windows.divide();
        }
    }
    tested.windows.divide();
    let mut completions = VecDeque::new();
    tested.queue.try_recv(&mut completions);
    assert!(completions.len() <= clients.len(), "{}", completions.len());
}

#[test]
fn tiny_servers_have_a_window() {
    for limit in [0, 1, 2, 3] {
        let (_, window) =
            Windows::new(limit, 0).open(ReplyTo::of(&["a", ""]), CompletionQueue::default());
        assert_eq!(window.calls, 1);
        assert_eq!(window.bytes, 1, "a call may always be in flight alone");
    }
}

#[test]
fn fair_part_satisfies_the_modest_first() {
    for (pool, wanted, part) in [
        (10, vec![], usize::MAX),
        (10, vec![3, 7], 7),
        (10, vec![3, 6], usize::MAX),
        (10, vec![30], 10),
        (10, vec![2, 30, 30], 4),
        (10, vec![20, 1, 20, 1], 4),
        (0, vec![1, 1], 0),
    ] {
        assert_eq!(fair_part(pool, wanted.clone()), part, "{wanted:?}");
    }
}
