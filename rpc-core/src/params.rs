//! Reading of a request's params, one parameter at a time, by position or by name.

use bytes::Bytes;
use rmp::{Marker, decode};

use crate::{
    codec::{DecodeError, Reader, read_again, read_whole},
    error::Ran,
    function::Param,
    protocol::{
        error::{Code, WireError},
        msgpack,
    },
    util::cut::cut_name,
};

/// The params of one request, read in the order of the function's parameters.
#[derive(Debug)]
pub struct Params<'de> {
    names: &'static [Param],
    next: usize,
    source: Source<'de>,
    body: &'de Bytes,
    /// The params and whatever follows them in the body.
    encoded: &'de [u8],
}

#[derive(Debug)]
enum Source<'de> {
    Positional {
        reader: Reader<'de>,
        left: usize,
    },
    /// The value of each parameter. It is `None` if the caller left the parameter out.
    Named(Vec<Option<&'de [u8]>>),
}

impl<'de> Params<'de> {
    /// Makes a reader of the params, which begin at `params_at` in `body`. The parser of the
    /// message has checked that an array or a map begins there.
    pub(crate) fn new(
        body: &'de Bytes,
        params_at: usize,
        names: &'static [Param],
    ) -> Result<Self, WireError> {
        let encoded = &body[params_at..];
        let mut rest = encoded;
        let first = rest.first().copied().map(Marker::from_u8);
        let source = if matches!(first, Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32)) {
            Source::Named(by_name(rest, names)?)
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
        Ok(Self { names, next: 0, source, body, encoded })
    }

    /// Reads the next parameter with `decode`.
    ///
    /// # Errors
    /// `bad_arguments`, with the name of the parameter, if its value does not decode, or if it is
    /// missing and its type is not an `Option`.
    pub fn next<T>(
        &mut self,
        decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
    ) -> Result<T, WireError> {
        let index = self.next;
        self.next += 1;
        let decoded = match &mut self.source {
            Source::Positional { left: 0, .. } => decode(&mut Reader::missing(self.body)),
            Source::Positional { reader, left } => {
                *left -= 1;
                decode(reader).or_else(|error| self.again(index, decode, error))
            }
            Source::Named(values) => match values[index] {
                Some(value) => read_whole(self.body, value, decode),
                None => decode(&mut Reader::missing(self.body)),
            },
        };
        decoded.map_err(|error| bad_arguments(describe(&self.names[index], &error)))
    }

    /// Reads one of several params again, after `decode` failed with `error`.
    #[cold]
    fn again<T>(
        &mut self,
        index: usize,
        decode: impl Fn(&mut Reader<'de>) -> Result<T, DecodeError>,
        error: DecodeError,
    ) -> Result<T, DecodeError> {
        let mut behind = self.encoded;
        let mut value = behind;
        let mut skip = || {
            decode::read_array_len(&mut behind).ok()?;
            for _ in 0..=index {
                value = behind;
                msgpack::skip_value(&mut behind)?;
            }
            Some(())
        };
        if skip().is_none() {
            return Err(error);
        }
        let value = &value[..value.len() - behind.len()];
        let decoded = read_again(self.body, value, decode, error)?;
        if let Source::Positional { reader, .. } = &mut self.source {
            *reader = Reader::new(self.body, behind);
        }
        Ok(decoded)
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
    match error.path() {
        "" => format!("parameter `{}` ({}): {error}", param.name, param.ty),
        path if path.starts_with('[') => format!("parameter `{}{path}`: {error}", param.name),
        path => format!("parameter `{}.{path}`: {error}", param.name),
    }
}

/// Finds the value of each parameter in a map with any order.
fn by_name<'de>(
    mut rest: &'de [u8],
    names: &'static [Param],
) -> Result<Vec<Option<&'de [u8]>>, WireError> {
    let broken = || bad_arguments("the params are a map that ends too early or nests too deeply");
    let mut values = vec![None; names.len()];
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
            Some(index) => values[index] = Some(value),
            None => return Err(bad_arguments(unknown_parameter(name, names))),
        }
    }
    if rest.is_empty() { Ok(values) } else { Err(trailing_bytes()) }
}

fn unknown_parameter(name: &str, names: &[Param]) -> String {
    let known: Vec<_> = names.iter().map(|param| param.name).collect();
    // A peer chose the name. It is cut so that the answer stays small.
    let name = cut_name(name);
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
    use std::net::IpAddr;

    use serde::de::DeserializeOwned;

    use super::*;

    static NAMES: [Param; 3] =
        [Param::new("a", "i64"), Param::new("b", "String"), Param::new("c", "Option<u8>")];

    type Read = (i64, String, Option<u8>);

    fn read_three<A, B, C>(
        params: &'static [u8],
        names: &'static [Param],
    ) -> Result<(A, B, C), WireError>
    where
        A: DeserializeOwned,
        B: DeserializeOwned,
        C: DeserializeOwned,
    {
        let body = Bytes::from_static(params);
        let mut params = Params::new(&body, 0, names)?;
        let a = params.next(Reader::value)?;
        let b = params.next(Reader::value)?;
        let c = params.next(Reader::value)?;
        params.finish()?;
        Ok((a, b, c))
    }

    fn read(params: &'static [u8]) -> Result<Read, WireError> {
        read_three(params, &NAMES)
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
    fn error_names_the_place_in_the_parameter() {
        static NAMES: [Param; 2] = [Param::new("first", "u8"), Param::new("p", "Outer")];
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)] // The values never get there.
        struct Outer {
            b: Vec<Inner>,
            by_number: std::collections::BTreeMap<i64, (u8, u8)>,
            shape: Shape,
        }
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            c: u8,
        }
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        enum Shape {
            Empty,
            Circle(u8),
            Line(u8, u8),
            Square { side: u8 },
        }
        let cases: [(&[u8], &str); 12] = [
            (b"\x07", "parameter `p` (Outer): invalid type: integer `7`, expected struct Outer"),
            (b"\x80", "parameter `p` (Outer): missing field `b`"),
            (b"\x81\xa1b\x07", "parameter `p.b`: invalid type: integer `7`, expected a sequence"),
            (b"\x81\xa1b\x92\x81\xa1c\x01\x80", "parameter `p.b[1]`: missing field `c`"),
            (
                b"\x81\xa1b\x92\x81\xa1c\x01\x81\xa1c\xcd\x01\0",
                "parameter `p.b[1].c`: invalid value: integer `256`, expected u8",
            ),
            (
                b"\x91\x91\x91\xa1x",
                "parameter `p[0][0][0]`: invalid type: string \"x\", expected u8",
            ),
            (
                b"\x81\xa9by_number\x81\xff\x92\x01\xc0",
                "parameter `p.by_number.-1[1]`: invalid type",
            ),
            (
                b"\x81\xa9by_number\x81\xff\x93\x01\x02\x03",
                "parameter `p.by_number.-1`: it has 1 elements too many",
            ),
            (b"\x81\xa5shape\xa4Oval", "parameter `p.shape`: unknown variant `Oval`"),
            (
                b"\x81\xa5shape\x81\xa6Circle\xc2",
                "parameter `p.shape.Circle`: invalid type: boolean",
            ),
            (b"\x81\xa5shape\x81\xa4Line\x92\x01\xc2", "parameter `p.shape.Line[1]`: invalid type"),
            (
                b"\x81\xa5shape\x81\xa6Square\x81\xa4side\xc2",
                "parameter `p.shape.Square.side`: invalid type",
            ),
        ];
        for (value, expected) in cases {
            let by_position = [b"\x92\x01", value].concat();
            let by_name = [b"\x82\xa5first\x01\xa1p", value].concat();
            for params in [by_position, by_name] {
                let body = Bytes::from(params);
                let read = || {
                    let mut params = Params::new(&body, 0, &NAMES)?;
                    params.next(Reader::value::<u8>)?;
                    params.next(Reader::value::<Outer>)
                };
                let message = read().unwrap_err().message;
                assert!(message.starts_with(expected), "{message}");
            }
        }
    }

    #[test]
    fn types_with_two_forms_are_read_in_either() {
        const MACHINES: &[u8] = b"\x81\xa2V4\x94\0\0\0\0";
        const PEOPLE: &[u8] = b"\xa70.0.0.0";
        static NAMES: [Param; 3] =
            [Param::new("a", "[IpAddr; 2]"), Param::new("b", "IpAddr"), Param::new("c", "u8")];
        let read = |params: Vec<u8>| read_three::<[IpAddr; 2], IpAddr, u8>(params.leak(), &NAMES);
        let home = IpAddr::from([0, 0, 0, 0]);
        let expected = ([home, home], home, 7);
        for a in [MACHINES, PEOPLE] {
            for b in [MACHINES, PEOPLE] {
                let by_position = [b"\x93\x92", a, a, b, b"\x07"].concat();
                let by_name = [b"\x83\xa1c\x07\xa1b", b, b"\xa1a\x92", a, a].concat();
                for params in [by_position, by_name] {
                    assert_eq!(read(params).unwrap(), expected);
                }
            }
        }
        let mixed = [b"\x93\x92", MACHINES, PEOPLE, MACHINES, b"\x07"].concat();
        let error = read(mixed).unwrap_err();
        assert!(error.message.starts_with("parameter `a[1]`: "), "{}", error.message);
        // The error is that of the form that got further.
        for (a, place) in [(MACHINES, "a[1]"), (PEOPLE, "a[1]")] {
            let params = [b"\x93\x92", a, b"\xc3", MACHINES, b"\x07"].concat();
            let error = read(params).unwrap_err();
            assert!(error.message.starts_with(&format!("parameter `{place}`: ")), "{error:?}");
        }
        let error = read(b"\x93\x92\xa1x\xa1x\xa1x\x07".to_vec()).unwrap_err();
        assert_eq!(error.message, "parameter `a[0]`: invalid IP address syntax");
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
