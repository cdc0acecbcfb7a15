//! A small DNS server on loopback, whose records a test changes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// The largest answer that is sent in a datagram. A longer one is fetched over TCP.
const MAX_DATAGRAM: usize = 512;

/// The records by name and type. Names that are not there do not exist.
type Zone = HashMap<(Name, RecordType), Vec<RData>>;

pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Ends with the server.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    zone: Zone,
    /// True if every question is answered with SERVFAIL.
    fails: bool,
    questions: usize,
}

impl DnsServer {
    pub(crate) async fn start() -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let (address, state) = (udp.local_addr().unwrap(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&state)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Sets the addresses of a name. Without any, the name does not exist.
    pub(crate) fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let name = Name::from_ascii(name).unwrap();
        let zone = &mut self.state.lock().unwrap().zone;
        zone.retain(|(known, _), _| *known != name);
        for address in addresses {
            let (ty, data) = match address.parse().unwrap() {
                IpAddr::V4(address) => (RecordType::A, RData::A(A(address))),
                IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(address))),
            };
            zone.entry((name.clone(), ty)).or_default().push(data);
        }
    }

    /// Sets the SRV records of a name: priority, port and host of each.
    pub(crate) fn set_services(&self, name: &str, services: &[(u16, u16, &str)]) {
        let record = |(priority, port, host): &(u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, 1, *port, Name::from_ascii(host).unwrap()))
        };
        let records = services.iter().map(record).collect();
        let name = Name::from_ascii(name).unwrap();
        self.state.lock().unwrap().zone.insert((name, RecordType::SRV), records);
    }

    pub(crate) fn set_fails(&self, fails: bool) {
        self.state.lock().unwrap().fails = fails;
    }

    /// Returns the number of questions so far.
    pub(crate) fn questions(&self) -> usize {
        self.state.lock().unwrap().questions
    }
}

impl State {
    fn answer(&mut self, question: &[u8]) -> Message {
        self.questions += 1;
        let question = Message::from_vec(question).unwrap();
        let mut answer = Message::new(question.id, MessageType::Response, OpCode::Query);
        let query = question.queries[0].clone();
        let (name, ty) = (query.name().clone(), query.query_type());
        answer.add_query(query);
        if self.fails {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if let Some(records) = self.zone.get(&(name.clone(), ty)) {
            let records =
                records.iter().map(|data| Record::from_rdata(name.clone(), 1, data.clone()));
            answer.add_answers(records);
        } else if !self.zone.keys().any(|(known, _)| *known == name) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer
    }
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut question = [0; 4_096];
    loop {
        let (len, from) = socket.recv_from(&mut question).await.unwrap();
        let mut answer = state.lock().unwrap().answer(&question[..len]);
        let mut bytes = answer.to_vec().unwrap();
        if bytes.len() > MAX_DATAGRAM {
            answer.answers.clear();
            answer.metadata.truncation = true;
            bytes = answer.to_vec().unwrap();
        }
        // The client may have gone.
        let _ = socket.send_to(&bytes, from).await;
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_connection(stream, Arc::clone(&state)));
    }
}

async fn serve_connection(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(len) = stream.read_u16().await {
        let mut question = vec![0; len.into()];
        stream.read_exact(&mut question).await.unwrap();
        let answer = state.lock().unwrap().answer(&question).to_vec().unwrap();
        let len = u16::try_from(answer.len()).unwrap();
        stream.write_all(&[&len.to_be_bytes()[..], &answer].concat()).await.unwrap();
    }
}
