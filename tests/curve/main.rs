//! Encryption with CURVE, and access lists.

mod access;
mod floods;
mod handshakes;
mod hostile;
mod logs;
mod mallory;
mod python;
mod raw;
mod tampering;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use rpc_core::{
    Access, Client, ClientBuilder, Context, Engine, PublicKey, SecretKey, Server, ServerBuilder,
    ServerHandle, remote,
};
use tests::Gate;

/// The calls that have run.
#[derive(Default)]
struct Runs {
    taken: AtomicU32,
    seen: Mutex<Vec<u32>>,
}

#[remote(inline)]
fn add(a: i32, b: i32) -> i32 {
    a + b
}

#[remote(name = "orders.take")]
fn take(#[state] runs: &Runs) -> u32 {
    runs.taken.fetch_add(1, Ordering::Relaxed)
}

#[remote(inline)]
fn note(number: u32, #[state] runs: &Runs) -> u32 {
    runs.seen.lock().unwrap().push(number);
    number
}

#[remote]
async fn hold(#[state] gate: Arc<Gate>) {
    let _inside = gate.enter();
    gate.pass_async().await;
}

#[remote]
fn block(#[state] gate: &Gate) {
    let _inside = gate.enter();
    gate.pass(|| false);
}

#[remote]
fn who(#[context] cx: &Context) -> (Option<String>, Option<String>) {
    (cx.peer_name().map(str::to_owned), cx.peer_key().map(|key| key.to_string()))
}

/// The keys of the parties of a test, by name.
#[derive(Default)]
struct Keys(HashMap<&'static str, SecretKey>);

impl Keys {
    fn secret(&mut self, name: &'static str) -> SecretKey {
        self.0.entry(name).or_insert_with(SecretKey::generate).clone()
    }

    fn public(&mut self, name: &'static str) -> PublicKey {
        self.secret(name).public()
    }

    fn server(&mut self, access: &Access) -> ServerBuilder {
        Server::builder()
            .engine(Engine::Omq)
            .curve(self.secret("server"))
            .access(access.clone())
            .state(Runs::default())
    }

    async fn serve(&mut self, access: &Access, gate: &Arc<Gate>) -> ServerHandle {
        let builder = self.server(access).shared_state(Arc::clone(gate));
        builder.bind("tcp://127.0.0.1:0").await.unwrap().spawn().unwrap()
    }

    fn client(&mut self, name: &'static str) -> ClientBuilder {
        let server = self.public("server");
        Client::builder().engine(Engine::Omq).curve([server], self.secret(name))
    }
}
