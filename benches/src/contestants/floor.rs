//! The floor: the cost of the default engine and MessagePack without a framework on top.
//!
//! The server is a ROUTER socket that answers in its receive loop. The client is a DEALER socket
//! that keeps a window of requests in flight. There are no tasks that wait for calls, no deadlines,
//! no admission control and no reconnecting, and any error ends the program. The messages are the
//! same as those of the library. Each body is decoded once, and results are owned values, as a
//! caller would want them.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use rmp::{decode, encode};
use serde::{Serialize, de::Deserialize};
use zeromq::{
    DealerSocket, RouterSocket, Socket as _, SocketRecv as _, SocketSend as _, ZmqMessage,
};

use crate::{
    Failure,
    contestants::print_endpoint,
    drive::{self, Load, Sampled},
    work::{self, Input, Output},
};

pub(crate) async fn serve() -> Result<(), Failure> {
    let mut socket = RouterSocket::new();
    print_endpoint(socket.bind("tcp://127.0.0.1:0").await?)?;
    loop {
        let mut frames = socket.recv().await?.into_vecdeque();
        let request = frames.pop_back().ok_or("a request has a body")?;
        frames.push_back(answer(&request)?.into());
        socket.send(message(frames)?).await?;
    }
}

/// Returns the response to the request `[0, id, function, [argument]]`.
pub(super) fn answer(mut request: &[u8]) -> Result<Vec<u8>, Failure> {
    let rest = &mut request;
    decode::read_array_len(rest)?;
    decode::read_int::<u8, _>(rest)?;
    let id: u32 = decode::read_int(rest)?;
    let (function, mut rest) =
        decode::read_str_from_slice(*rest).map_err(|_| "a function's name is text")?;
    decode::read_array_len(&mut rest)?;
    match function {
        "echo" => response(id, rmp_serde::from_slice::<&serde_bytes::Bytes>(rest)?),
        "count_words" => response(id, &work::count_words(rmp_serde::from_slice(rest)?)),
        _ => Err(format!("there is no {function}").into()),
    }
}

/// Encodes the response `[1, id, nil, result]`.
fn response<T: Serialize + ?Sized>(id: u32, result: &T) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::with_capacity(128);
    encode::write_array_len(&mut message, 4)?;
    encode::write_uint(&mut message, 1)?;
    encode::write_uint(&mut message, id.into())?;
    encode::write_nil(&mut message)?;
    rmp_serde::encode::write(&mut message, result)?;
    Ok(message)
}

fn message(frames: VecDeque<Bytes>) -> Result<ZmqMessage, Failure> {
    ZmqMessage::try_from(frames).map_err(|_| "a message has at least one frame".into())
}

/// Encodes the request `[0, id, function, [argument]]`.
pub(super) fn request(id: u32, input: &Input) -> Result<Vec<u8>, Failure> {
    let (function, length) = match input {
        Input::Data(data) => ("echo", data.len()),
        Input::Text(text) => ("count_words", text.len()),
    };
    let mut message = Vec::with_capacity(length + 32);
    encode::write_array_len(&mut message, 4)?;
    encode::write_uint(&mut message, 0)?;
    encode::write_uint(&mut message, id.into())?;
    encode::write_str(&mut message, function)?;
    encode::write_array_len(&mut message, 1)?;
    match input {
        Input::Data(data) => encode::write_bin(&mut message, data)?,
        Input::Text(text) => encode::write_str(&mut message, text)?,
    }
    Ok(message)
}

pub(super) fn decode_response(mut message: &[u8], input: &Input) -> Result<(u32, Output), Failure> {
    let rest = &mut message;
    decode::read_array_len(rest)?;
    decode::read_int::<u8, _>(rest)?;
    let id = decode::read_int(rest)?;
    decode::read_nil(rest)?;
    let mut result = rmp_serde::Deserializer::from_read_ref(*rest);
    let output = match input {
        Input::Data(_) => Output::Data(Bytes::deserialize(&mut result)?),
        Input::Text(_) => Output::Counts(HashMap::deserialize(&mut result)?),
    };
    Ok((id, output))
}

/// A connection with one DEALER socket.
pub(crate) struct Connection(DealerSocket);

impl Connection {
    pub(crate) async fn open(endpoint: &str) -> Result<Self, Failure> {
        let mut socket = DealerSocket::new();
        socket.connect(endpoint).await?;
        Ok(Self(socket))
    }

    async fn send(&mut self, id: u32, input: &Input) -> Result<(), Failure> {
        let frames = [Bytes::new(), request(id, input)?.into()].into();
        Ok(self.0.send(message(frames)?).await?)
    }
}

impl drive::Connection for Connection {
    /// Makes calls until the load is over. An id names a slot of the window: the request that
    /// follows a response in the same slot reuses its id.
    async fn run(&mut self, load: Load) -> Result<Sampled, Failure> {
        let mut sampled = Sampled::default();
        let mut slots = vec![Slot { calls: 0, start: None }; load.window];
        for id in 0..u32::try_from(load.window)? {
            slots[id as usize].begin(&load);
            self.send(id, &load.input).await?;
        }
        let mut in_flight = load.window;
        while in_flight > 0 {
            let body =
                self.0.recv().await?.into_vecdeque().pop_back().ok_or("a response has a body")?;
            let (id, output) = decode_response(&body, &load.input)?;
            let slot = slots.get_mut(id as usize).ok_or("a response to no request")?;
            load.input.check(&output, slot.start.is_some())?;
            sampled.latencies.extend(slot.start.map(|start| start.elapsed()));
            sampled.calls += 1;
            if load.over() {
                in_flight -= 1;
            } else {
                slot.begin(&load);
                self.send(id, &load.input).await?;
            }
        }
        Ok(sampled)
    }
}

/// A slot of the window, with one call in flight.
#[derive(Clone)]
pub(super) struct Slot {
    /// The number of calls that were made in this slot.
    pub(super) calls: u64,
    /// The start of the call in flight, if it is sampled.
    pub(super) start: Option<Instant>,
}

impl Slot {
    /// Notes that a call begins.
    pub(super) fn begin(&mut self, load: &Load) {
        self.start = load.samples(self.calls).then(Instant::now);
        self.calls += 1;
    }
}
