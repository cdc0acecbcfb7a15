//! A server that wants a token with every call, and writes down who has called what.
//!
//! ```sh
//! cargo run --example audited
//! ```
//!
//! Both are hooks. The token proves who calls only if nobody else can read it on its way: use it over
//! `ipc://`, or together with encryption (docs/SECURITY.md).

use std::{
    collections::HashMap,
    error::Error,
    io::{Write, stdout},
    process::ExitCode,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use examples::{add, divide};
use rpc_core::{
    CallEnd, Client, ClientHook, Refusal, RefusedRequest, ServedCall, Server, ServerHook,
    StartingCall,
};

/// The callers by their tokens.
struct Tokens(HashMap<String, String>);

impl ServerHook for Tokens {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        let token = call.context().metadata("token");
        match token.and_then(|token| self.0.get(token)) {
            Some(caller) if call.context().metadata("caller") == Some(caller) => Ok(()),
            _ => Err(Refusal::new("unauthenticated", "the token does not belong to the caller")),
        }
    }
}

/// Hands a line for each call to the thread that writes. A hook must not wait for a disk, so the
/// queue has a bound. Lines that do not fit are counted.
struct AuditLog {
    lines: SyncSender<String>,
    lost: AtomicU64,
}

impl AuditLog {
    fn new() -> (Self, Receiver<String>) {
        let (lines, written) = sync_channel(1_024);
        (Self { lines, lost: AtomicU64::new(0) }, written)
    }

    fn write(&self, line: String) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let line = if lost > 0 { format!("{line} ({lost} lines before were lost)") } else { line };
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl ServerHook for AuditLog {
    fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>) {
        let (context, took) = (call.context(), end.took());
        let caller = context.metadata("caller").unwrap_or("somebody");
        let code = end.error_code().unwrap_or("ok");
        // A caller chooses what it says: the text is escaped, so that it makes no lines of its own.
        self.write(format!("{caller:?} called {}: {code}, {took:.1?}", context.function()));
    }

    fn refused(&self, request: &RefusedRequest<'_>) {
        self.write(format!("refused {:?}: {}", request.function(), request.error_code()));
    }
}

/// The name and the token that a client sends with every call.
struct Credentials {
    caller: String,
    token: String,
}

impl ClientHook for Credentials {
    fn before(&self, call: &mut StartingCall<'_>) {
        call.metadata("caller", &self.caller);
        call.metadata("token", &self.token);
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (log, lines) = AuditLog::new();
    let writer =
        thread::spawn(move || lines.into_iter().try_for_each(|line| writeln!(stdout(), "{line}")));
    let tokens = HashMap::from([("a1b2c3".to_owned(), "alice".to_owned())]);
    // The log is the first hook, so that it sees what the second one refuses.
    let server = Server::builder()
        .serve::<add>()
        .serve::<divide>()
        .hook(log)
        .hook(Tokens(tokens))
        .bind("tcp://127.0.0.1:0")
        .await?;
    let endpoint = server.endpoint().to_owned();
    let server = server.spawn()?;

    for token in ["a1b2c3", "guessed"] {
        let credentials = Credentials { caller: "alice".to_owned(), token: token.to_owned() };
        let client = Client::builder().hook(credentials).connect(&endpoint).await?;
        for result in [add::call(&client, 1, 2).await, client.call_dynamic("ad", (1, 2)).await] {
            if let Err(error) = result {
                eprintln!("{error}");
            }
        }
        // The function's own error: one cannot divide by zero.
        if let Err(error) = divide::call(&client, 1, 0).await {
            eprintln!("{error}");
        }
        client.close().await;
    }
    server.shutdown().await;
    // The last hook is gone, and with it the sender of the lines.
    writer.join().expect("writing does not panic")?;
    Ok(())
}
