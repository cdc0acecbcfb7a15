//! A deserializer around another one, which bounds the nesting of what it reads. rmp-serde counts
//! arrays and maps, but not the levels of an enum that contains itself, so that a peer could
//! overflow the stack.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
    },
};

use super::TOO_DEEP;

/// The bounds of a value, and the way in which it is read.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// The number of arrays and maps that may still be opened in each other.
    pub(super) depth: usize,
    /// `None` at the first attempt to read a value.
    pub(super) second: Option<&'a SecondAttempt>,
}

/// Another attempt to read a value, which is made when the first one has failed.
#[derive(Default)]
pub(super) struct SecondAttempt {
    /// True if types that have a form for people are read in that form.
    pub(super) texts: bool,
    /// The number of elements that were begun.
    pub(super) elements: Cell<usize>,
}

/// Something of serde that is used within `limits`: a deserializer, a visitor, a seed, or the
/// access to the contents of a value.
pub(super) struct Within<'a, T> {
    pub(super) inner: T,
    pub(super) limits: Limits<'a>,
}

impl<'a, T> Within<'a, T> {
    /// Puts something at the same level.
    fn beside<U>(&self, inner: U) -> Within<'a, U> {
        Within { inner, limits: self.limits }
    }

    /// Puts something one level deeper.
    fn inside<U, E: serde::de::Error>(&self, inner: U) -> Result<Within<'a, U>, E> {
        match self.limits.depth.checked_sub(1) {
            Some(depth) => Ok(Within { inner, limits: Limits { depth, ..self.limits } }),
            None => Err(E::custom(TOO_DEEP)),
        }
    }

    /// Counts an element that is begun.
    fn count(&self) {
        if let Some(second) = self.limits.second {
            second.elements.set(second.elements.get() + 1);
        }
    }
}

macro_rules! deserialize {
    ($($name:ident($($arg:ident: $ty:ty),*) $(by $inner:ident)?;)*) => {
        $(fn $name<V: Visitor<'de>>(self, $($arg: $ty,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.beside(visitor);
            deserialize!(@ self.inner, $name $($inner)?, ($($arg,)* visitor))
        })*
    };
    (@ $self:expr, $name:ident, $args:tt) => { $self.$name $args };
    (@ $self:expr, $name:ident $inner:ident, $args:tt) => { $self.$inner $args };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Within<'_, D> {
    type Error = D::Error;

    fn is_human_readable(&self) -> bool {
        self.limits.second.is_some_and(|second| second.texts)
    }

    // Where rmp-serde expects a number or a bool, its error does not say which one. It takes them by
    // `deserialize_any` in the same way, and then the visitor says what it expected.
    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(U128(visitor))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(I128(visitor))
    }

    deserialize! {
        deserialize_any();
        deserialize_bool() by deserialize_any;
        deserialize_i8() by deserialize_any;
        deserialize_i16() by deserialize_any;
        deserialize_i32() by deserialize_any;
        deserialize_i64() by deserialize_any;
        deserialize_u8() by deserialize_any;
        deserialize_u16() by deserialize_any;
        deserialize_u32() by deserialize_any;
        deserialize_u64() by deserialize_any;
        deserialize_f32() by deserialize_any;
        deserialize_f64() by deserialize_any;
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

macro_rules! visit {
    ($($name:ident($ty:ty);)*) => {
        $(fn $name<E: serde::de::Error>(self, value: $ty) -> Result<V::Value, E> {
            self.inner.$name(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.beside(value);
        self.inner.visit_some(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.beside(value);
        self.inner.visit_newtype_struct(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let mut elements = self.inside(elements)?;
        let value = self.inner.visit_seq(&mut elements)?;
        // rmp-serde checks this for an array, but not where it takes bytes for one.
        match elements.inner.size_hint() {
            Some(more @ 1..) => {
                Err(A::Error::custom(format_args!("it has {more} elements too many")))
            }
            _ => Ok(value),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = self.inside(entries)?;
        self.inner.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let variant = self.beside(variant);
        self.inner.visit_enum(variant)
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<T::Value, D::Error> {
        let value = self.beside(value);
        self.inner.deserialize(value)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.count();
        let seed = self.beside(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let seed = self.beside(seed);
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.count();
        let seed = self.beside(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Within<'a, A> {
    type Error = A::Error;
    type Variant = Within<'a, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let (seed, limits) = (self.beside(seed), self.limits);
        let (name, variant) = self.inner.variant_seed(seed)?;
        Ok((name, Within { inner: variant, limits }))
    }
}

macro_rules! wide {
    ($($name:ident($visit:ident, $ty:ty);)*) => {
        $(
            /// Reads a number of 128 bits, which is an integer or 16 bytes, the highest first.
            /// rmp-serde takes a negative number for a large one.
            struct $name<V>(V);

            impl<'de, V: Visitor<'de>> Visitor<'de> for $name<V> {
                type Value = V::Value;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(concat!(stringify!($ty), ", as an integer or as 16 bytes"))
                }

                fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<V::Value, E> {
                    self.0.$visit(value.into())
                }

                fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<V::Value, E> {
                    match <$ty>::try_from(value) {
                        Ok(value) => self.0.$visit(value),
                        Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
                    }
                }

                fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<V::Value, E> {
                    match value.try_into() {
                        Ok(bytes) => self.0.$visit(<$ty>::from_be_bytes(bytes)),
                        Err(_) => Err(E::invalid_length(value.len(), &self)),
                    }
                }
            }
        )*
    };
}

wide! {
    U128(visit_u128, u128);
    I128(visit_i128, i128);
}

/// A variant with content is a map, so that its content is one level deeper.
impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.inside(seed)?;
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.inside(visitor)?;
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.inside(visitor)?;
        self.inner.struct_variant(fields, visitor)
    }
}
