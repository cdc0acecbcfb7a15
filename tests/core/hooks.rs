//! Hooks of servers and clients: what they see of each call, and what they can change.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    CallEnd, ClientHook, EndedCall, ErrorKind, Ran, Refusal, RefusedRequest, ServedCall,
    ServerHook, StartingCall,
};
use tests::{Gate, endpoints, soon};

use crate::functions::{add, builder, crash, crash_inline, divide, echo, hold, hold_async, note};

/// What hooks have seen, a line each. Clones share the lines.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Waits until there are `count` lines, and takes them.
    async fn take(&self, count: usize) -> Vec<String> {
        let enough = async {
            while self.0.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the hooks see it", enough).await;
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl ServerHook for Seen {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        assert!(call.size() > 0 && call.waited() < Duration::from_secs(60));
        self.note(format!("before {}", call.context().function()));
        Ok(())
    }

    fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>) {
        assert!(end.took() < Duration::from_secs(60));
        assert_eq!(end.reply_size().is_some(), end.error_code().is_none());
        let kind = if call.is_notification() { " notification" } else { "" };
        let code = end.error_code().unwrap_or("ok");
        self.note(format!("after {}: {code}{kind}", call.context().function()));
    }

    fn refused(&self, request: &RefusedRequest<'_>) {
        assert!(!request.peer().is_empty() && !request.error_message().is_empty());
        self.note(format!("refused {}: {}", request.function(), request.error_code()));
    }
}

#[tokio::test]
async fn server_hooks_see_every_call() {
    for endpoint in endpoints() {
        let (seen, gate) = (Seen::default(), Arc::<Gate>::default());
        let server = builder(&gate).hook(seen.clone()).bind(&endpoint).await.unwrap();
        let server = server.spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        let short = Duration::from_millis(20);
        add::call(&client, 1, 2).await.unwrap();
        assert_eq!(seen.take(2).await, ["before add", "after add: ok"]);
        divide::call(&client, 1, 0).await.unwrap_err();
        assert_eq!(seen.take(2).await, ["before divide", "after divide: failed"]);
        crash::call(&client).await.unwrap_err();
        assert_eq!(seen.take(2).await, ["before crash", "after crash: panicked"]);
        crash_inline::call(&client).await.unwrap_err();
        assert_eq!(seen.take(2).await, ["before crash_inline", "after crash_inline: panicked"]);
        client.call_dynamic::<i64>("add", ("x", 1)).await.unwrap_err();
        assert_eq!(seen.take(2).await, ["before add", "after add: bad_arguments"]);
        note::notify(&client, "x".to_owned()).await.unwrap();
        assert_eq!(seen.take(2).await, ["before note", "after note: ok notification"]);
        client.call_dynamic::<()>("ad", ()).await.unwrap_err();
        assert_eq!(seen.take(1).await, ["refused ad: unknown_function"]);

        // An async function is dropped at its deadline, and a sync one returns after it.
        hold_async::call(&client).timeout(short).await.unwrap_err();
        let dropped = seen.take(2).await;
        assert_eq!(dropped[0], "before hold_async");
        assert!(
            ["deadline_exceeded", "cancelled"].iter().any(|code| dropped[1].ends_with(code)),
            "{dropped:?}"
        );
        let passed = hold::call(&client).timeout(short).await;
        assert!(!passed.unwrap_or(false), "the gate is shut");
        let late = seen.take(2).await;
        assert_eq!(late[0], "before hold");
        assert!(late[1].starts_with("after hold: "), "{late:?}");

        // Two calls occupy both workers, and one that waits is given up.
        let running = [tokio::spawn(hold::call(&client)), tokio::spawn(hold::call(&client))];
        gate.entered(2).await;
        assert_eq!(seen.take(2).await, ["before hold", "before hold"]);
        echo::call(&client, bytes::Bytes::new()).timeout(short).await.unwrap_err();
        let expired = seen.take(1).await;
        assert!(expired[0].starts_with("refused echo: "), "{expired:?}");
        gate.open();
        for call in running {
            assert!(call.await.unwrap().unwrap());
        }
        server.shutdown().await;
    }
}

/// A hook that lets only calls with a token pass.
struct Token;

impl ServerHook for Token {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        match call.context().metadata("token") {
            Some("secret") => Ok(()),
            Some("none") => Err(Refusal::new("denied", "not for you")),
            Some("crash") => panic!("oh"),
            _ => Err(Refusal::new("unauthenticated", "it has no valid token")),
        }
    }
}

#[tokio::test]
async fn server_hook_can_refuse_a_call() {
    for endpoint in endpoints() {
        let seen = Seen::default();
        let server = builder(&Arc::default()).hook(seen.clone()).hook(Token).hook(seen.clone());
        let server = server.bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().connect(server.endpoint()).await.unwrap();
        for (token, code, kind) in [
            ("", "unauthenticated", ErrorKind::Remote),
            ("none", "denied", ErrorKind::Denied),
            ("crash", "panicked", ErrorKind::Panicked),
        ] {
            // Inline and on a worker.
            let calls = [
                add::call(&client, 1, 2).metadata("token", token).await.unwrap_err(),
                noted_error(&client, token).await,
            ];
            for error in calls {
                assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
                assert_eq!((error.ran(), error.retries()), (Ran::No, 0));
            }
            // Only the hook in front of it sees the call.
            let lines = seen.take(4).await;
            assert_eq!(lines[1], format!("after add: {code}"));
            assert_eq!(lines[3], format!("after noted: {code}"));
            assert_eq!(lines.len(), 4);
        }
        assert_eq!(add::call(&client, 1, 2).metadata("token", "secret").await.unwrap(), 3);
        let passed = ["before add", "before add", "after add: ok", "after add: ok"];
        assert_eq!(seen.take(4).await, passed);
        server.shutdown().await;
    }
}

async fn noted_error(client: &rpc_core::Client, token: &str) -> rpc_core::RpcError {
    crate::functions::noted::call(client).metadata("token", token).await.unwrap_err()
}

/// A hook of a client that adds a token, and notes the end of each call.
struct Noting(Seen);

impl ClientHook for Noting {
    fn before(&self, call: &mut StartingCall<'_>) {
        call.metadata("token", "secret");
        self.0.note(format!("before {}", call.function()));
    }

    fn after(&self, call: &EndedCall<'_>) {
        assert!(call.took() < Duration::from_secs(60));
        let code = call.error_code().unwrap_or("ok");
        let kind = if call.is_notification() { " notification" } else { "" };
        let at = if call.endpoint().is_empty() { "" } else { " at an endpoint" };
        self.0.note(format!("after {}: {code}{at}{kind}", call.function()));
    }
}

#[tokio::test]
async fn client_hooks_see_every_call() {
    for endpoint in endpoints() {
        let seen = Seen::default();
        let builder = builder(&Arc::default()).hook(Token);
        let server = builder.bind(&endpoint).await.unwrap().spawn().unwrap();
        let client = tests::client().hook(Noting(seen.clone()));
        let client = client.connect(server.endpoint()).await.unwrap();
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        assert_eq!(seen.take(2).await, ["before add", "after add: ok at an endpoint"]);
        divide::call(&client, 1, 0).await.unwrap_err();
        assert_eq!(seen.take(2).await[1], "after divide: failed at an endpoint");
        client.call_dynamic::<()>("ad", ()).await.unwrap_err();
        assert_eq!(seen.take(2).await[1], "after ad: unknown_function at an endpoint");
        note::notify(&client, "x".to_owned()).await.unwrap();
        assert_eq!(seen.take(2).await[1], "after note: ok at an endpoint notification");
        let short = Duration::from_millis(20);
        hold_async::call(&client).timeout(short).await.unwrap_err();
        assert_eq!(seen.take(2).await[1], "after hold_async: deadline_exceeded at an endpoint");
        let dropped = tokio::time::timeout(short, hold_async::call(&client)).await;
        assert!(dropped.is_err());
        assert_eq!(seen.take(2).await[1], "after hold_async: dropped");
        drop(add::call(&client, 1, 2));
        server.shutdown().await;
        add::call(&client, 1, 2).fail_fast().await.unwrap_err();
        let lines = seen.take(2).await;
        assert_eq!(lines[1], "after add: disconnected at an endpoint", "{lines:?}");
        assert_eq!(lines.len(), 2, "a call that was never polled has not begun");
    }
}
