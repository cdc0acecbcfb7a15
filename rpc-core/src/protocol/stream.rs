//! The messages of streams: their items, and the credit for more of them. Either side may send
//! both: a server for the stream that a function returns, a client for a stream that it passes.

use bytes::Bytes;
use rmp::decode;

use super::MsgId;
use crate::{
    codec::{self, DecodeError, EncodeError, Reader, Writer},
    protocol::{
        control::CREDIT,
        msgpack::{U32, read_u32, skip_value},
        outgoing::EncodedArgs,
    },
};

/// The beginning of a message with items as we write it. The number of elements follows, and then
/// the msgid and the values.
const HEAD: [u8; 12] = *b"\x93\x02\xa8rpc.item\xdc";
/// The number of bytes in front of the first value.
pub(crate) const HEAD_LEN: usize = HEAD.len() + 2 + 1 + 4;
/// The most items in a message that is sent.
const MAX_ITEMS: u16 = u16::MAX - 1;
/// The length below which a message with items is copied out of its batch.
const SMALL: usize = 1_024;
/// The bytes of items that are sent together. A larger item is a message of its own.
pub(crate) const MESSAGE_BYTES: usize = 16 * 1024;

/// One item that was encoded. It is used for one item after the other, and keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Item {
    /// Space for the head of a message, and the value behind it.
    buffer: Vec<u8>,
    /// The length of the last large item, which the next one is likely to have.
    expected: usize,
}

/// The reason why an item cannot be sent.
#[derive(Debug)]
pub(crate) enum NotAdded {
    Unencodable(EncodeError),
    /// A message with nothing but this item has this size.
    TooLarge(usize),
}

impl Item {
    /// Replaces the item by the next one, which `encode` writes.
    ///
    /// # Errors
    /// Returns an error if it cannot be sent in a message of `limit` bytes. It is not pushed then.
    pub(crate) fn encode(
        &mut self,
        limit: usize,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), NotAdded> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve(self.expected.max(64));
        buffer.extend_from_slice(&[0; HEAD_LEN]);
        let mut writer = Writer::new(buffer);
        let encoded = encode(&mut writer);
        self.buffer = writer.into_buffer();
        encoded.map_err(NotAdded::Unencodable)?;
        let size = self.buffer.len();
        if size > limit { Err(NotAdded::TooLarge(size)) } else { Ok(()) }
    }
}

/// Items on their way into one message.
#[derive(Debug)]
pub(crate) struct Items {
    id: MsgId,
    /// Space for the head, and the values behind it. Empty if there are none.
    buffer: Vec<u8>,
    count: u16,
    /// The length of the last message of small items, which the next one is likely to have.
    expected: usize,
}

impl Items {
    pub(crate) fn new(id: MsgId) -> Self {
        Self { id, buffer: Vec::new(), count: 0, expected: 0 }
    }

    /// Returns the length of the message, or 0 if there are no items.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the number of items.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Adds an item. Returns the message before it if both together would be longer than `limit`, or
    /// if the item is large.
    pub(crate) fn push(&mut self, item: &mut Item, limit: usize) -> Option<Bytes> {
        let value = &item.buffer[HEAD_LEN..];
        let is_large = value.len() >= MESSAGE_BYTES;
        let joins = self.count < MAX_ITEMS && !is_large && self.len() + value.len() <= limit;
        let full = if joins { None } else { self.take() };
        if is_large {
            item.expected = item.buffer.len();
            self.buffer = std::mem::take(&mut item.buffer);
        } else {
            if self.count == 0 {
                self.buffer.reserve(self.expected.max(64));
                self.buffer.extend_from_slice(&[0; HEAD_LEN]);
            }
            self.buffer.extend_from_slice(value);
        }
        self.count += 1;
        full
    }

    /// Returns the message with all items, and begins the next one. `None` if there are none.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.count == 0 {
            return None;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.expected = buffer.len().min(MESSAGE_BYTES);
        let [high, low] = (std::mem::take(&mut self.count) + 1).to_be_bytes();
        let [a, b, c, d] = self.id.0.to_be_bytes();
        buffer[..HEAD.len()].copy_from_slice(&HEAD);
        buffer[HEAD.len()..HEAD_LEN].copy_from_slice(&[high, low, U32, a, b, c, d]);
        Some(Bytes::from(buffer))
    }
}

/// Makes the message after the last item of a client: one without items.
pub(crate) fn end_of_items(id: MsgId) -> Bytes {
    let [a, b, c, d] = id.0.to_be_bytes();
    let mut end = b"\x93\x02\xa8rpc.item\x91\xce".to_vec();
    end.extend_from_slice(&[a, b, c, d]);
    Bytes::from(end)
}

/// Returns a message that keeps no batch alive which is much larger.
pub(crate) fn own(body: Bytes) -> Bytes {
    if body.len() < SMALL { Bytes::copy_from_slice(&body) } else { body }
}

/// A message with items, whose values were not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemsHead {
    pub(crate) id: MsgId,
    /// The place of the first value in the message.
    pub(crate) values_at: usize,
    /// The number of values, as the sender states it.
    pub(crate) count: u32,
}

/// Reads the head of a message with items in exactly the form in which we write it.
#[inline]
pub(crate) fn plain_items(body: &[u8]) -> Option<ItemsHead> {
    let [high, low, U32, a, b, c, d, ..] = body.strip_prefix(&HEAD)? else { return None };
    let count = u32::from(u16::from_be_bytes([*high, *low])).checked_sub(1)?;
    let id = MsgId(u32::from_be_bytes([*a, *b, *c, *d]));
    Some(ItemsHead { id, values_at: HEAD_LEN, count })
}

/// Reads the params of a message with items, which begin at `params_at` in its `body`.
pub(crate) fn read_items(body: &[u8], params_at: usize) -> Option<ItemsHead> {
    let mut params = body.get(params_at..)?;
    let count = decode::read_array_len(&mut params).ok()?.checked_sub(1)?;
    let id = MsgId(read_u32(&mut params)?);
    Some(ItemsHead { id, values_at: body.len() - params.len(), count })
}

/// The items of a message, which are read one after the other.
#[derive(Debug)]
pub(crate) struct Chunk {
    body: Bytes,
    at: usize,
    left: u32,
}

impl Chunk {
    pub(crate) fn new(body: Bytes, head: ItemsHead) -> Self {
        Self { body, at: head.values_at, left: head.count }
    }

    /// Returns the length of the message.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// Returns the number of items that are left.
    pub(crate) fn count(&self) -> u32 {
        self.left
    }

    /// Reads the next item with `decode`. Returns `None` after the last one. A value that ends too
    /// early is the last one, and what follows the last one belongs to it: neither decodes.
    #[inline]
    pub(crate) fn read<T>(
        &mut self,
        decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Option<Result<T, DecodeError>> {
        self.left = self.left.checked_sub(1)?;
        let values = &self.body[self.at..];
        let mut rest = values;
        let ends = skip_value(&mut rest).is_some() && (self.left > 0 || rest.is_empty());
        if !ends {
            self.left = 0;
            return Some(codec::read_whole(&self.body, values, decode));
        }
        let len = values.len() - rest.len();
        self.at += len;
        Some(codec::read_exact(&self.body, &values[..len], decode))
    }
}

/// Writes a number of items for people.
pub(crate) fn items(count: u64) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

/// The bytes of items that a receiver takes. It is negative after a message that was longer than
/// that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Credit(i64);

impl Credit {
    /// Makes the credit of a receiver that takes `bytes`, or more than anybody sends.
    pub(crate) fn new(bytes: u64) -> Self {
        Self(i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    /// Adds what the receiver gives.
    ///
    /// # Errors
    /// Returns `Err` if nobody can have so much.
    pub(crate) fn grant(&mut self, bytes: u64) -> Result<(), ()> {
        let more = i64::try_from(bytes).map_err(drop)?;
        self.0 = self.0.checked_add(more).ok_or(())?;
        Ok(())
    }

    /// Takes the bytes of a message that is sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Returns the bytes that may be sent. One message may exceed them.
    pub(crate) fn left(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }
}

/// Encodes the params of a credit of `bytes`.
pub(crate) fn credit(id: MsgId, bytes: u64) -> EncodedArgs {
    EncodedArgs::dynamic(CREDIT, &(id.0, bytes))
}

/// Reads the params of a credit.
pub(crate) fn read_credit(params: &[u8]) -> Option<(MsgId, u64)> {
    let (id, bytes) = codec::from_slice(params).ok()?;
    Some((MsgId(id), bytes))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::protocol::request::Head;

    const ID: MsgId = MsgId(0x0102_0304);

    /// Reads all items, of which those that do not decode are `None`.
    #[allow(clippy::redundant_closure_for_method_calls)] // Its reader may have any lifetime.
    fn values<T: DeserializeOwned>(mut chunk: Chunk) -> Vec<Option<T>> {
        std::iter::from_fn(|| chunk.read(|reader| reader.value()).map(Result::ok)).collect()
    }

    fn some<const N: usize>(texts: [&str; N]) -> [Option<String>; N] {
        texts.map(|text| Some(text.to_owned()))
    }

    #[test]
    fn items_and_credit_round_trip() {
        let mut items = Items::new(ID);
        assert!(items.take().is_none());
        let mut item = Item::default();
        for text in ["abc", "d"] {
            item.encode(100, |writer| writer.value(text)).unwrap();
            assert!(items.push(&mut item, 100).is_none());
        }
        let body = items.take().unwrap();
        assert!(items.take().is_none() && items.len() == 0);
        let head = plain_items(&body).unwrap();
        // The params begin behind the name.
        assert_eq!(read_items(&body, 11), Some(head));
        assert_eq!((head.id, head.count), (ID, 2));
        assert_eq!(values(Chunk::new(body.clone(), head)), some(["abc", "d"]));
        for cut in 0..HEAD_LEN {
            assert_eq!(plain_items(&body[..cut]), None);
        }
        let end = end_of_items(ID);
        let head = read_items(&end, 11).unwrap();
        assert_eq!((head.id, head.count, head.values_at), (ID, 0, end.len()));
        let credit = credit(ID, u64::MAX).into_message(Head::NOTIFICATION);
        assert_eq!(read_credit(&credit[13..]), Some((ID, u64::MAX)));
        for wrong in [&b"\x91\x01"[..], b"\x93\x01\x02\x03", b"\x92\x01\xff", b"\x92\xff\x01", b""]
        {
            assert_eq!(read_credit(wrong), None);
        }
    }

    #[test]
    fn message_is_no_longer_than_its_limit() {
        let (mut items, mut item) = (Items::new(ID), Item::default());
        let limit = HEAD_LEN + 10;
        let mut add = |text: &str| -> Result<Option<Bytes>, NotAdded> {
            item.encode(limit, |writer| writer.value(text))?;
            Ok(items.push(&mut item, limit))
        };
        assert!(add("12345").unwrap().is_none());
        let full = add("67890").unwrap().expect("both are too long");
        assert_eq!(plain_items(&full).unwrap().count, 1);
        assert!(matches!(add("1234567890"), Err(NotAdded::TooLarge(size)) if size == limit + 1));
        assert!(add("1").unwrap().is_none());
        let rest = items.take().unwrap();
        let head = plain_items(&rest).unwrap();
        assert_eq!(values(Chunk::new(rest, head)), some(["67890", "1"]));
    }

    #[test]
    fn large_item_is_a_message_of_its_own() {
        let (mut items, mut item) = (Items::new(ID), Item::default());
        let large = "x".repeat(MESSAGE_BYTES);
        let mut counts = Vec::new();
        let mut note = |full: Option<Bytes>| {
            counts.extend(full.map(|full| plain_items(&full).unwrap().count));
        };
        for text in ["a", "b", &large, &large, "c", "d"] {
            item.encode(usize::MAX, |writer| writer.value(text)).unwrap();
            note(items.push(&mut item, usize::MAX));
        }
        note(items.take());
        assert_eq!(counts, [2, 1, 3]);
    }

    #[test]
    fn credit_may_be_exceeded_once_and_not_overflow() {
        let mut credit = Credit::new(10);
        credit.spend(30);
        assert_eq!(credit.left(), 0);
        assert!(credit.grant(25).is_ok() && credit.left() == 5);
        assert!(credit.grant(u64::MAX).is_err() && credit.grant(i64::MAX as u64).is_err());
        assert_eq!(credit.left(), 5);
    }

    #[test]
    fn value_that_nobody_reads_is_passed_over() {
        struct Unread;
        impl<'de> serde::Deserialize<'de> for Unread {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Ok(Self)
            }
        }
        let body = Bytes::from_static(b"\xa3abc\x92\x01\x02\x03");
        let head = ItemsHead { id: MsgId(1), values_at: 0, count: 3 };
        let read: Vec<_> = values::<Unread>(Chunk::new(body, head));
        assert!(read.len() == 3 && read.iter().all(Option::is_some));
    }

    #[test]
    fn values_that_are_missing_do_not_decode() {
        let chunk = |values: &'static [u8], count| {
            let head = ItemsHead { id: ID, values_at: 0, count };
            Chunk::new(Bytes::from_static(values), head)
        };
        assert_eq!(values(chunk(b"\x01\x02", 3)), [Some(1), Some(2), None]);
        assert_eq!(values(chunk(b"\x01\xa5x", u32::MAX)), [Some(1), None]);
        assert_eq!(values(chunk(b"\x01\x02\x03", 2)), [Some(1), None]);
        assert_eq!(values::<u8>(chunk(b"", 0)), []);
    }
}
