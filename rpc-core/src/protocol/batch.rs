//! Batches: several small messages in one body. They save time because an engine and a kernel need
//! nearly the same time for a body of any length below a few KiB. `PROTOCOL.md` specifies the
//! format.

use bytes::Bytes;
use rmp::decode;

/// The longest batch that is accepted, in bytes.
const MAX_LEN: usize = 64 * 1024;
/// The longest batch that is sent, in bytes. A longer one would save nothing more, and would keep
/// the other side waiting. If a received batch is longer, each of its messages is copied, so that
/// one message does not keep alive the memory of the others.
const FULL_LEN: usize = 8 * 1024;
/// The largest number of messages that is accepted in one batch. Fewer fit into a batch that is
/// sent.
const MAX_MESSAGES: u32 = 1_024;
/// The longest message that is put into a batch, in bytes. A longer message travels alone, because
/// copying it takes as long as the batch would save.
const MAX_MESSAGE_LEN: usize = 1_024;

const KIND: u8 = 3;
const ARRAY16: u8 = 0xdc;
const BIN16: u8 = 0xc5;
/// The length of the head of a batch that is sent, in bytes.
const HEAD_LEN: usize = 4;
/// The length of the head of each message in it, in bytes.
const MESSAGE_HEAD_LEN: usize = 3;

/// Several messages that become one body.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Space for the head of the batch, and then each message behind its own head. Empty, without
    /// an allocation, as long as there is no message.
    buffer: Vec<u8>,
    count: u16,
}

impl Batch {
    /// Returns true if a message of `len` bytes is short enough for a batch.
    pub(crate) fn suits(len: usize) -> bool {
        len <= MAX_MESSAGE_LEN
    }

    /// Returns true if a message of `len` bytes still fits into this batch.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.buffer.len() + MESSAGE_HEAD_LEN + len <= FULL_LEN
    }

    /// Begins a message of `len` bytes. The caller must append exactly `len` bytes to the returned
    /// buffer. It has checked [`suits`](Self::suits) and [`has_room`](Self::has_room) before.
    ///
    /// The first message allocates memory for about `more` further messages of the same length.
    pub(crate) fn begin(&mut self, len: usize, more: usize) -> &mut Vec<u8> {
        if self.count == 0 {
            let expected = more.saturating_add(1).saturating_mul(MESSAGE_HEAD_LEN + len);
            self.buffer.reserve_exact(expected.saturating_add(HEAD_LEN).min(FULL_LEN));
            self.buffer.extend_from_slice(&[0; HEAD_LEN]);
        }
        self.count += 1;
        let [.., b, a] = len.to_be_bytes();
        self.buffer.extend_from_slice(&[BIN16, b, a]);
        &mut self.buffer
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Returns the body that contains all messages, and empties the batch. A single message is
    /// returned as it is, and not as a batch. `None` if there is no message.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let Self { mut buffer, count } = std::mem::take(self);
        match count {
            0 => None,
            1 => Some(Bytes::from(buffer).slice(HEAD_LEN + MESSAGE_HEAD_LEN..)),
            _ => {
                let [b, a] = (count + 1).to_be_bytes();
                buffer[..HEAD_LEN].copy_from_slice(&[ARRAY16, b, a, KIND]);
                // Fewer messages came than were expected. Limits count the length of a body, and
                // its memory must not be much larger.
                if buffer.capacity() > 2 * buffer.len() {
                    buffer.shrink_to_fit();
                }
                Some(Bytes::from(buffer))
            }
        }
    }
}

/// The messages of a received batch. An error is the last item.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Bytes,
    at: usize,
    left: u32,
}

/// Returns the messages in `body`. `None` if it is not a batch, but a single message.
pub(crate) fn unpack(body: &Bytes) -> Option<Messages> {
    let (elements, at) = match **body {
        [marker @ 0x91..=0x9f, KIND, ..] => (u32::from(marker & 0x0f), 2),
        [ARRAY16, b, a, KIND, ..] => (u16::from_be_bytes([b, a]).into(), 4),
        [0xdd, d, c, b, a, KIND, ..] => (u32::from_be_bytes([d, c, b, a]), 6),
        _ => return None,
    };
    Some(Messages { body: body.clone(), at, left: elements.checked_sub(1)? })
}

impl Messages {
    fn fail(&mut self, reason: &'static str) -> Result<Bytes, &'static str> {
        (self.body, self.at, self.left) = (Bytes::new(), 0, 0);
        Err(reason)
    }
}

impl Iterator for Messages {
    type Item = Result<Bytes, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.body.len() > MAX_LEN {
            return Some(self.fail("a batch has at most 64 KiB"));
        }
        if self.left > MAX_MESSAGES {
            return Some(self.fail("a batch has at most 1,024 messages"));
        }
        let mut rest = &self.body[self.at..];
        if self.left == 0 {
            return (!rest.is_empty()).then(|| self.fail("bytes follow the batch"));
        }
        self.left -= 1;
        let len = decode::read_bin_len(&mut rest).ok().and_then(|len| usize::try_from(len).ok());
        let Some(message) = len.and_then(|len| rest.get(..len)) else {
            return Some(self.fail("a batch holds messages as bin, and nothing else"));
        };
        self.at = self.body.len() - rest.len() + message.len();
        Some(Ok(if self.body.len() > FULL_LEN {
            Bytes::copy_from_slice(message)
        } else {
            self.body.slice_ref(message)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(messages: &[&[u8]]) -> Batch {
        let mut batch = Batch::default();
        for message in messages {
            batch.begin(message.len(), 0).extend_from_slice(message);
        }
        batch
    }

    fn read(body: &[u8]) -> Vec<Result<Bytes, &'static str>> {
        unpack(&Bytes::copy_from_slice(body)).expect("it is a batch").collect()
    }

    #[test]
    fn batch_round_trips() {
        let messages: [&[u8]; 3] = [b"\x93\x02\xa1a\x90", b"", &[7; MAX_MESSAGE_LEN]];
        let mut batch = batch_of(&messages);
        assert_eq!(batch.count(), 3);
        let body = batch.take().unwrap();
        assert_eq!(body[..7], [ARRAY16, 0, 4, KIND, BIN16, 0, 5]);
        assert_eq!(read(&body), messages.map(|message| Ok(Bytes::copy_from_slice(message))));
        assert_eq!(batch.take(), None, "the batch is empty");
    }

    #[test]
    fn single_message_is_not_wrapped() {
        let body = batch_of(&[b"\x93\x02\xa1a\x90"]).take().unwrap();
        assert_eq!(body, &b"\x93\x02\xa1a\x90"[..]);
        assert!(unpack(&body).is_none());
    }

    #[test]
    fn full_batch_is_within_the_accepted_length() {
        let mut batch = Batch::default();
        while batch.has_room(MAX_MESSAGE_LEN) {
            batch.begin(MAX_MESSAGE_LEN, usize::MAX).extend_from_slice(&[7; MAX_MESSAGE_LEN]);
        }
        assert!(batch.count() > 1);
        let body = batch.take().unwrap();
        assert!(body.len() <= FULL_LEN && FULL_LEN <= MAX_LEN);
    }

    #[test]
    fn array_of_any_width_is_a_batch() {
        for head in [&[0x92, 3][..], &[0xdc, 0, 2, 3], &[0xdd, 0, 0, 0, 2, 3]] {
            for bin in [&[0xc4, 1, 7][..], &[0xc5, 0, 1, 7], &[0xc6, 0, 0, 0, 1, 7]] {
                assert_eq!(read(&[head, bin].concat()), [Ok(Bytes::from_static(&[7]))]);
            }
        }
        assert_eq!(read(&[0x91, 3]), []);
        assert!(unpack(&Bytes::from_static(&[0xdc, 0, 0, 3])).is_none(), "an empty array");
    }

    #[test]
    fn message_keeps_little_memory_alive() {
        let long = [&[0x93, 3, 0xc4, 1, 7, 0xc5, 0x20, 0][..], &vec![0; 0x2000]].concat();
        let body = Bytes::from(long);
        let within = |message: &Bytes| body.as_ptr_range().contains(&message.as_ptr());
        let messages: Vec<_> = unpack(&body).unwrap().flatten().collect();
        assert!(messages.len() == 2 && !messages.iter().any(within));
        let mut batch = Batch::default();
        batch.begin(1, 1_000).push(7);
        batch.begin(1, 1_000).push(7);
        let body = batch.take().unwrap();
        assert!(Vec::from(body.clone()).capacity() < 64, "unused capacity was freed");
    }

    #[test]
    fn malformed_batch_ends_with_an_error() {
        let bin: &[u8] = &[0xc4, 1, 7];
        for bad in [&[0xc4, 2, 7][..], &[0xa1, 7], &[7], &[0xc6, 0xff, 0xff, 0xff, 0xff], &[]] {
            let found = read(&[&[0x93, 3], bin, bad].concat());
            assert!(matches!(found[..], [Ok(_), Err(_)]), "{bad:?}: {found:?}");
        }
        assert!(
            matches!(read(&[&[0x92, 3], bin, bin].concat())[..], [Ok(_), Err(_)]),
            "bytes follow"
        );
        let many = |count: u16| {
            let [b, a] = (count + 1).to_be_bytes();
            [&[0xdc, b, a, 3][..], &[0xc4, 0].repeat(count.into())].concat()
        };
        assert!(read(&many(1_024)).iter().all(Result::is_ok));
        assert!(matches!(read(&many(1_025))[..], [Err(_)]));
        // A length of five bytes that claims far too many messages.
        assert!(matches!(read(&[0xdd, 0xff, 0xff, 0xff, 0xff, 3])[..], [Err(_)]));
        assert!(matches!(
            read(&[&[0x92, 3, 0xc6, 0, 1, 0, 0][..], &vec![0; 65_536]].concat())[..],
            [Err(_)]
        ));
    }
}
