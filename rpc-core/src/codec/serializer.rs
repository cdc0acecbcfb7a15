//! A serializer around another one, which bounds the nesting of what it writes. Without it, a deep
//! value would overflow the stack of the thread that encodes it.
//!
//! It also writes borrowed bytes as `bin`. To serde, a `&[u8]` is a sequence of integers; but an
//! array of integers cannot be decoded to a `&[u8]`, which borrows its bytes from the input.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::TOO_DEEP;

/// The bounds of what is written inside a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nesting {
    /// The number of arrays and maps that may be opened in each other.
    pub(super) depth: usize,
    /// True if every `&[u8]` is written as `bin`.
    pub(super) slices_as_bin: bool,
}

impl Nesting {
    /// Opens `levels` arrays or maps.
    fn open<E: serde::ser::Error>(self, levels: usize) -> Result<Self, E> {
        match self.depth.checked_sub(levels) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(E::custom(TOO_DEEP)),
        }
    }
}

/// A value that is written by a [`Bounded`] serializer.
pub(super) struct Within<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) nesting: Nesting,
}

impl<T: Serialize + ?Sized> Serialize for Within<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Bounded { inner, nesting: self.nesting })
    }
}

/// A serializer that bounds the nesting, and leaves the writing to `inner`.
struct Bounded<S> {
    inner: S,
    nesting: Nesting,
}

/// The contents of an array or a map that was opened.
struct Contents<C> {
    inner: C,
    nesting: Nesting,
}

impl<S> Bounded<S> {
    fn within<'a, T: ?Sized>(&self, value: &'a T) -> Within<'a, T> {
        Within { value, nesting: self.nesting }
    }
}

/// Checks a length, of which rmp-serde would write only the last 32 bits.
fn check_len<E: serde::ser::Error>(len: usize) -> Result<(), E> {
    match u32::try_from(len) {
        Ok(_) => Ok(()),
        Err(_) => Err(E::custom(format_args!("MessagePack has no room for {len} elements"))),
    }
}

macro_rules! forward {
    ($($name:ident($ty:ty);)*) => {
        $(fn $name(self, value: $ty) -> Result<S::Ok, S::Error> {
            self.inner.$name(value)
        })*
    };
}

impl<S: Serializer> Serializer for Bounded<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Contents<S::SerializeSeq>;
    type SerializeTuple = Contents<S::SerializeTuple>;
    type SerializeTupleStruct = Contents<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Contents<S::SerializeTupleVariant>;
    type SerializeMap = Contents<S::SerializeMap>;
    type SerializeStruct = Contents<S::SerializeStruct>;
    type SerializeStructVariant = Contents<S::SerializeStructVariant>;

    forward! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_unit_struct(&'static str);
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        check_len::<S::Error>(value.len())?;
        self.inner.serialize_str(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        check_len::<S::Error>(value.len())?;
        self.inner.serialize_bytes(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_some(&value)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.within(value);
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Within { value, nesting: self.nesting.open(1)? };
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        check_len::<S::Error>(len.unwrap_or(0))?;
        Ok(Contents { nesting: self.nesting.open(1)?, inner: self.inner.serialize_seq(len)? })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Contents { nesting: self.nesting.open(1)?, inner: self.inner.serialize_tuple(len)? })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let nesting = self.nesting.open(1)?;
        Ok(Contents { nesting, inner: self.inner.serialize_tuple_struct(name, len)? })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let nesting = self.nesting.open(2)?;
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Contents { inner, nesting })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        check_len::<S::Error>(len.unwrap_or(0))?;
        Ok(Contents { nesting: self.nesting.open(1)?, inner: self.inner.serialize_map(len)? })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let nesting = self.nesting.open(1)?;
        Ok(Contents { nesting, inner: self.inner.serialize_struct(name, len)? })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let nesting = self.nesting.open(2)?;
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Contents { inner, nesting })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn collect_seq<I>(self, values: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let is_slice = typeid::of::<I>() == typeid::of::<&[u8]>();
        let values = values.into_iter();
        let len = match values.size_hint() {
            (low, Some(high)) if low == high => Some(low),
            _ => None,
        };
        if is_slice && self.nesting.slices_as_bin {
            // The inner serializer is told to write bytes as `bin`, but it cannot tell that an
            // empty sequence consists of bytes.
            check_len::<S::Error>(len.unwrap_or(0))?;
            return match len {
                Some(0) => self.inner.serialize_bytes(&[]),
                _ => self.inner.collect_seq(values),
            };
        }
        let mut contents = self.serialize_seq(len)?;
        for value in values {
            contents.serialize_element(&value)?;
        }
        SerializeSeq::end(contents)
    }
}

macro_rules! contents {
    ($($trait:ident { $($name:ident($($key:ty)?);)* })*) => {
        $(impl<C: $trait> $trait for Contents<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(contents!(@ $trait, $name $(, $key)?);)*

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
    (@ $trait:ident, $name:ident) => {
        fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
            self.inner.$name(&Within { value, nesting: self.nesting })
        }
    };
    (@ $trait:ident, $name:ident, $key:ty) => {
        fn $name<T: Serialize + ?Sized>(&mut self, key: $key, value: &T) -> Result<(), C::Error> {
            self.inner.$name(key, &Within { value, nesting: self.nesting })
        }
    };
}

contents! {
    SerializeSeq { serialize_element(); }
    SerializeTuple { serialize_element(); }
    SerializeTupleStruct { serialize_field(); }
    SerializeTupleVariant { serialize_field(); }
    SerializeMap { serialize_key(); serialize_value(); }
    SerializeStruct { serialize_field(&'static str); }
    SerializeStructVariant { serialize_field(&'static str); }
}
