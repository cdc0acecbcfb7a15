//! Tests of endpoints that are added and removed while calls run, over the in-process transport.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::StreamExt;
use tokio::{sync::oneshot, time};

use super::{
    run::{EndOnDrop, run},
    *,
};
use crate::{
    client::{Client, endpoints::Change},
    codec,
    endpoint::Endpoint,
    protocol::{
        request::{self, ClientMessage},
        response,
    },
    transport::{Event, Listener, ReplyTo, Workload, open},
    util::fair_share::{Share, SharedLimit},
};

/// A server that answers every call with its own name. It holds the replies to calls of the
/// function `held` back until the test releases them.
struct Named {
    name: &'static str,
    listener: Box<dyn Listener>,
    share: Arc<Share>,
    held: Vec<(ReplyTo, MsgId)>,
}

impl Named {
    async fn new(name: &'static str) -> Self {
        let endpoints = vec![Endpoint::Inproc(name.to_owned())];
        let listening = open::listen(
            endpoints,
            &ClientConfig::default().transport(),
            0o600,
            Workload::default(),
        )
        .await;
        let (mut listeners, _) = listening.map_err(|(_, cause)| cause).unwrap();
        let listener = listeners.pop().unwrap();
        let share = Share::new(&Arc::new(SharedLimit::new(1_000, 0)));
        Self { name, listener, share, held: Vec::new() }
    }

    async fn serve(mut self, mut release: oneshot::Receiver<()>) {
        let mut held = true;
        loop {
            tokio::select! {
                _ = &mut release, if held => {
                    held = false;
                    for (reply_to, id) in std::mem::take(&mut self.held) {
                        self.answer(reply_to, id);
                    }
                }
                event = self.listener.recv() => {
                    let Event::Body(reply_to, body) = event else { continue };
                    let Ok(ClientMessage::Request(request)) = request::parse(&body) else { continue };
                    match request.method {
                        control::HELLO => {
                            let hello = control::server_hello(self.name, 1_000, None).unwrap();
                            self.send(reply_to, response::response(request.id, &hello));
                        }
                        "held" if held => self.held.push((reply_to, request.id)),
                        _ => self.answer(reply_to, request.id),
                    }
                }
            }
        }
    }

    fn answer(&mut self, reply_to: ReplyTo, id: MsgId) {
        let name = codec::to_vec(self.name).unwrap();
        self.send(reply_to, response::response(id, &name));
    }

    fn send(&mut self, reply_to: ReplyTo, body: Bytes) {
        let lease = self.share.acquire(1).unwrap();
        assert!(self.listener.send(reply_to, body, lease));
    }
}

fn endpoint(name: &str) -> Arc<EndpointState> {
    EndpointState::new(name.into(), Endpoint::Inproc(name.to_owned()))
}

async fn call(client: &Client, method: &str) -> Result<String, RpcError> {
    client.call_dynamic::<String>(method, ()).await
}

#[tokio::test]
async fn endpoints_change_while_calls_run() {
    let (first, second) = (endpoint("first endpoint"), endpoint("second endpoint"));
    let (release, released) = oneshot::channel();
    let (_never, not_released) = oneshot::channel();
    tokio::spawn(Named::new("first endpoint").await.serve(released));
    tokio::spawn(Named::new("second endpoint").await.serve(not_released));
    let config = ClientConfig::default();
    let core = ClientCore::new(&config, &[], []);
    let (changes, stream) = mpsc::unbounded();
    tokio::spawn(run(EndOnDrop(Arc::clone(&core)), stream.boxed(), None));
    let client = Client::new(Arc::clone(&core), config, None);

    // A call that is made before there is an endpoint waits for one.
    let early = tokio::spawn({
        let client = client.clone();
        async move { call(&client, "f").await }
    });
    changes.unbounded_send(Change::Insert(Arc::clone(&first))).unwrap();
    assert_eq!(early.await.unwrap().unwrap(), "first endpoint");

    let held = tokio::spawn({
        let client = client.clone();
        async move { call(&client, "held").await }
    });
    while core.status().endpoints.iter().map(|endpoint| endpoint.calls).sum::<usize>() == 0 {
        time::sleep(Duration::from_millis(1)).await;
    }
    changes.unbounded_send(Change::Insert(Arc::clone(&second))).unwrap();
    changes.unbounded_send(Change::Remove(Arc::clone(&first))).unwrap();
    while client.endpoints() != [Arc::clone(&second.name)] {
        time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..10 {
        assert_eq!(call(&client, "f").await.unwrap(), "second endpoint");
    }
    assert!(!held.is_finished(), "the first server has not answered yet");
    release.send(()).unwrap();
    assert_eq!(held.await.unwrap().unwrap(), "first endpoint", "the call was sent there before");

    changes.unbounded_send(Change::Remove(second)).unwrap();
    while !client.endpoints().is_empty() {
        time::sleep(Duration::from_millis(1)).await;
    }
    let error = client.call_dynamic::<String>("f", ()).fail_fast().await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::Disconnected, Ran::No));
    client.close().await;
}

#[tokio::test]
async fn removed_endpoint_does_not_hold_up_connecting() {
    let (first, second) = (endpoint("absent one"), endpoint("absent two"));
    let config = ClientConfig::default();
    let core = ClientCore::new(&config, &[Arc::clone(&first), Arc::clone(&second)], []);
    core.give_up(&first);
    assert!(core.connected.borrow().is_none(), "the other may still answer");
    core.remove_endpoint(&second);
    core.connected().await.unwrap_err();
}

#[test]
fn link_to_a_removed_endpoint_takes_no_calls() {
    let removed = endpoint("removed");
    let core = ClientCore::new(&ClientConfig::default(), &[Arc::clone(&removed)], []);
    core.remove_endpoint(&removed);
    // It was being connected meanwhile.
    let link = core.link_up(&removed, control::read_server_hello(None, 1_000));
    assert!(core.lock().calls.balancer.find(link).unwrap().draining);
}
