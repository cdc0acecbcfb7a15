//! Reading of a request's params, one parameter at a time, by position or by name.

use bytes::Bytes;
use rmp::{Marker, decode};

use crate::{
    codec::{DecodeError, Reader},
    error::Ran,
    function::Param,
    protocol::{
        error::{Code, WireError},
        msgpack,
    },
};

/// The params of one request, read in the order of the function's parameters.
#[derive(Debug)]
pub struct Params<'de> {
    names: &'static [Param],
    next: usize,
    source: Source<'de>,
    body: &'de Bytes,
}

#[derive(Debug)]
enum Source<'de> {
    Positional {
        reader: Reader<'de>,
        left: usize,
    },
    /// One reader for each parameter. It is [`Reader::missing`] if the caller left the parameter
    /// out.
    Named(Vec<Reader<'de>>),
}

impl<'de> Params<'de> {
    /// Makes a reader of the params, which begin at `params_at` in `body`. The parser of the
    /// message has checked that an array or a map begins there.
    pub(crate) fn new(
        body: &'de Bytes,
        params_at: usize,
        names: &'static [Param],
    ) -> Result<Self, WireError> {
        let mut rest = &body[params_at..];
        let first = rest.first().copied().map(Marker::from_u8);
        let source = if matches!(first, Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32)) {
            Source::Named(by_name(body, rest, names)?)
        } else {
            let given = decode::read_array_len(&mut rest)
                .map_err(|_| bad_arguments("the params are neither an array nor a map"))?;
            let given = usize::try_from(given).unwrap_or(usize::MAX);
            if given > names.len() {
                let takes = names.len();
                return Err(bad_arguments(format!(
                    "{given} arguments were given, but the function takes {takes}"
                )));
            }
            Source::Positional { reader: Reader::new(body, rest), left: given }
        };
        Ok(Self { names, next: 0, source, body })
    }

    /// Reads the next parameter with `decode`.
    ///
    /// # Errors
    /// `bad_arguments`, with the name of the parameter, if its value does not decode, or if it is
    /// missing and its type is not an `Option`.
    pub fn next<T>(
        &mut self,
        decode: impl FnOnce(&mut Reader<'de>) -> Result<T, DecodeError>,
    ) -> Result<T, WireError> {
        let index = self.next;
        self.next += 1;
        let decoded = match &mut self.source {
            Source::Positional { left: 0, .. } => decode(&mut Reader::missing(self.body)),
            Source::Positional { reader, left } => {
                *left -= 1;
                decode(reader)
            }
            Source::Named(readers) => decode(&mut readers[index]),
        };
        decoded.map_err(|error| bad_arguments(describe(&self.names[index], &error)))
    }

    /// Checks that the params end here. To be called after the last parameter was read, before the
    /// function runs.
    ///
    /// # Errors
    /// `bad_request` if bytes follow the params, because the message ends with them.
    pub fn finish(self) -> Result<(), WireError> {
        let ended = match self.source {
            Source::Positional { mut reader, .. } => reader.is_at_end(),
            Source::Named(_) => true,
        };
        if ended { Ok(()) } else { Err(trailing_bytes()) }
    }
}

fn describe(param: &Param, error: &DecodeError) -> String {
    format!("parameter `{}` ({}): {error}", param.name, param.ty)
}

/// Finds the value of each parameter in a map with any order.
fn by_name<'de>(
    body: &'de Bytes,
    mut rest: &'de [u8],
    names: &'static [Param],
) -> Result<Vec<Reader<'de>>, WireError> {
    let broken = || bad_arguments("the params are a map that ends too early or nests too deeply");
    let mut readers: Vec<_> = names.iter().map(|_| Reader::missing(body)).collect();
    for _ in 0..decode::read_map_len(&mut rest).map_err(|_| broken())? {
        let Some(name) = msgpack::read_str(&mut rest) else {
            return Err(bad_arguments(
                "the params are a map with a key that is no parameter's name",
            ));
        };
        let value = rest;
        msgpack::skip_value(&mut rest).ok_or_else(broken)?;
        let value = &value[..value.len() - rest.len()];
        match names.iter().position(|param| param.name == name) {
            Some(index) => readers[index] = Reader::new(body, value),
            None => return Err(bad_arguments(unknown_parameter(name, names))),
        }
    }
    if rest.is_empty() { Ok(readers) } else { Err(trailing_bytes()) }
}

fn unknown_parameter(name: &str, names: &[Param]) -> String {
    let known: Vec<_> = names.iter().map(|param| param.name).collect();
    // A peer chose the name. It is cut so that the answer stays small.
    let name: String = name.chars().take(64).collect();
    match known.as_slice() {
        [] => format!("there is no parameter `{name}`: the function takes none"),
        known => {
            format!("there is no parameter `{name}`: the function takes `{}`", known.join("`, `"))
        }
    }
}

fn bad_arguments(message: impl Into<String>) -> WireError {
    WireError::new(Code::BadArguments, Ran::No, message)
}

fn trailing_bytes() -> WireError {
    WireError::new(Code::BadRequest, Ran::No, "bytes follow the params")
}

#[cfg(test)]
mod tests {
    use super::*;

    static NAMES: [Param; 3] =
        [Param::new("a", "i64"), Param::new("b", "String"), Param::new("c", "Option<u8>")];

    type Read = (i64, String, Option<u8>);

    fn read(params: &'static [u8]) -> Result<Read, WireError> {
        let body = Bytes::from_static(params);
        let mut params = Params::new(&body, 0, &NAMES)?;
        let a = params.next(Reader::value)?;
        let b = params.next(Reader::value)?;
        let c = params.next(Reader::value)?;
        params.finish()?;
        Ok((a, b, c))
    }

    fn refusal(params: &'static [u8]) -> (Code, String) {
        let error = read(params).unwrap_err();
        assert_eq!(error.ran, Ran::No);
        (error.code, error.message)
    }

    #[test]
    fn params_by_name_equal_params_by_position() {
        let expected = (1, "x".to_owned(), Some(2));
        assert_eq!(read(b"\x93\x01\xa1x\x02").unwrap(), expected);
        assert_eq!(read(b"\x83\xa1c\x02\xa1a\x01\xa1b\xa1x").unwrap(), expected);
        let short = (1, "x".to_owned(), None);
        assert_eq!(read(b"\x92\x01\xa1x").unwrap(), short);
        assert_eq!(read(b"\x82\xa1b\xa1x\xa1a\x01").unwrap(), short);
    }

    #[test]
    fn error_names_the_parameter() {
        let cases: [(&[u8], &str); 7] = [
            (b"\x91\x01", "parameter `b` (String): it is missing"),
            (b"\x81\xa1b\xa1x", "parameter `a` (i64): it is missing"),
            (b"\x92\xa1x\xa1x", "parameter `a` (i64): "),
            (b"\x92\x01\xa2\xff\xff", "parameter `b` (String): "),
            (b"\x94\x01\xa1x\x02\x03", "4 arguments were given, but the function takes 3"),
            (b"\x81\xa1d\x01", "there is no parameter `d`: the function takes `a`, `b`, `c`"),
            (b"\x81\x01\x01", "the params are a map with a key that is no parameter's name"),
        ];
        for (params, expected) in cases {
            let (code, message) = refusal(params);
            assert_eq!(code, Code::BadArguments);
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        for params in [&b"\x92\x01\xa1x\x02"[..], b"\x82\xa1a\x01\xa1b\xa1x\x02"] {
            assert_eq!(refusal(params).0, Code::BadRequest);
        }
    }

    #[test]
    fn truncated_params_are_refused() {
        for params in [
            &b"\x93\x01\xa1x"[..],
            b"\x82\xa1a\x01\xa1b",
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff",
        ] {
            assert_eq!(refusal(params).0, Code::BadArguments);
        }
    }
}
