//! The arguments of the attribute: `#[remote(name = "...", inline, ...)]`. This module does not see
//! the function.

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Ident, LitInt, LitStr, Path, Result, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    parse_quote,
};

const KNOWN: &str = "there are `name`, `type`, `implements`, `inline`, `idempotent`, `timeout`, `retries` and `crate`";

/// The arguments that were given to the attribute.
pub(crate) struct RemoteArgs {
    /// The name on the wire, or `None` to use the name of the function.
    pub(crate) name: Option<String>,
    /// The name of the generated struct, or `None` to use the name of the function.
    pub(crate) ty: Option<Ident>,
    /// The place of `inline` in the source, if it was given.
    pub(crate) inline: Option<Span>,
    pub(crate) idempotent: bool,
    pub(crate) timeout_nanos: Option<u64>,
    /// The number of times that a call may be retried, if it was given.
    pub(crate) retries: Option<u32>,
    /// The declaration that the function implements, if one was given.
    pub(crate) implements: Option<Path>,
    /// The path of the `rpc_core` crate.
    pub(crate) krate: Path,
}

impl RemoteArgs {
    /// Parses all arguments. Adds each mistake to `errors` and continues with the next argument.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Vec<Error>) -> Self {
        let mut args = Self {
            name: None,
            ty: None,
            inline: None,
            idempotent: false,
            timeout_nanos: None,
            retries: None,
            implements: None,
            krate: parse_quote!(::rpc_core),
        };
        let mut given = Vec::new();
        let all = |input: ParseStream<'_>| -> Result<()> {
            while !input.is_empty() {
                if let Err(error) = args.argument(input, &mut given) {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
                if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                    errors.push(input.error("write a comma between two arguments"));
                    skip_to_comma(input)?;
                    input.parse::<Option<Token![,]>>()?;
                }
            }
            Ok(())
        };
        if let Err(error) = all.parse2(tokens) {
            errors.push(error);
        }
        args.check_implements(&given, errors);
        args
    }

    /// Reports the arguments that the declaration has already.
    fn check_implements(&self, given: &[Ident], errors: &mut Vec<Error>) {
        if self.implements.is_none() {
            return;
        }
        for key in given {
            if ["name", "idempotent", "timeout", "retries"].iter().any(|taken| key == taken) {
                let message = format!("the declaration decides about `{key}`: remove it here");
                errors.push(Error::new(key.span(), message));
            }
        }
    }

    fn argument(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> Result<()> {
        let Ok(key) = input.call(Ident::parse_any) else {
            return Err(input.error(format!("this is no argument of `#[remote]`: {KNOWN}")));
        };
        if seen.contains(&key) {
            return Err(Error::new(key.span(), format!("`{key}` is given twice: remove one")));
        }
        match key.to_string().as_str() {
            "name" => self.name = Some(wire_name(&string(input, &key, "\"text.count_words\"")?)?),
            "implements" => self.implements = Some(declaration(input, &key)?),
            "type" => self.ty = Some(struct_name(input, &key)?),
            "inline" => {
                flag(input, &key)?;
                self.inline = Some(key.span());
            }
            "idempotent" => {
                flag(input, &key)?;
                self.idempotent = true;
            }
            "timeout" => self.timeout_nanos = Some(nanos(&string(input, &key, "\"500ms\"")?)?),
            "retries" => self.retries = Some(retries(input, &key)?),
            "crate" => self.krate = crate_path(&string(input, &key, "\"my::rpc\"")?)?,
            _ => {
                let message = format!("`{key}` is no argument of `#[remote]`: {KNOWN}");
                return Err(Error::new(key.span(), message));
            }
        }
        seen.push(key);
        Ok(())
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}

fn flag(input: ParseStream<'_>, key: &Ident) -> Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    Err(Error::new(
        key.span(),
        format!("`{key}` takes no value: write `{key}` alone, or leave it out"),
    ))
}

fn string(input: ParseStream<'_>, key: &Ident, example: &str) -> Result<LitStr> {
    let wanted = || format!("`{key}` takes a string: write `{key} = {example}`");
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), wanted()));
    }
    input.parse::<Token![=]>()?;
    input.parse().map_err(|error| Error::new(error.span(), wanted()))
}

fn retries(input: ParseStream<'_>, key: &Ident) -> Result<u32> {
    const WANTED: &str =
        "`retries` takes a number: write `retries = 3`, or `retries = 0` for never";
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), WANTED));
    }
    input.parse::<Token![=]>()?;
    let number: LitInt = input.parse().map_err(|error: Error| Error::new(error.span(), WANTED))?;
    number.base10_parse().map_err(|_| Error::new(number.span(), WANTED))
}

fn struct_name(input: ParseStream<'_>, key: &Ident) -> Result<Ident> {
    const WANTED: &str = "`type` takes the name of the struct to add: write `type = CountWords`";
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), WANTED));
    }
    input.parse::<Token![=]>()?;
    input.parse().map_err(|error: Error| Error::new(error.span(), WANTED))
}

fn declaration(input: ParseStream<'_>, key: &Ident) -> Result<Path> {
    const WANTED: &str =
        "`implements` takes the path of a declaration: write `implements = shared::count_words`";
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), WANTED));
    }
    input.parse::<Token![=]>()?;
    input.call(Path::parse_mod_style).map_err(|error| Error::new(error.span(), WANTED))
}

fn crate_path(text: &LitStr) -> Result<Path> {
    text.parse_with(Path::parse_mod_style).map_err(|_| {
        let message = "`crate` takes the path under which this crate sees the runtime: \
                       write `crate = \"::rpc_core\"` or `crate = \"my::rpc\"`";
        Error::new(text.span(), message)
    })
}

fn wire_name(text: &LitStr) -> Result<String> {
    let name = text.value();
    if name.is_empty() {
        return Err(Error::new(
            text.span(),
            "the name is empty: leave `name` out to use the function's own",
        ));
    }
    if name.starts_with("rpc.") {
        let message =
            "names that begin with `rpc.` are reserved for the protocol: choose another prefix";
        return Err(Error::new(text.span(), message));
    }
    Ok(name)
}

/// Parses a timeout such as `"500ms"` into nanoseconds.
fn nanos(text: &LitStr) -> Result<u64> {
    let value = text.value();
    let error = |message: &str| Err(Error::new(text.span(), message));
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let unit: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => 0,
    };
    if number.is_empty() || unit == 0 {
        return error(
            "a timeout is an integer and a unit, one of `us`, `ms`, `s`, `m` and `h`: write `\"2s\"` or \
             `\"1500ms\"`",
        );
    }
    // The number has only digits, so parsing fails only if it is too large.
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(0) => error("no call can finish in no time: leave `timeout` out to use the client's"),
        Some(nanos) => Ok(nanos),
        None => error("this timeout is too long: 64 bits of nanoseconds hold 584 years"),
    }
}

#[cfg(test)]
mod tests {
    use quote::{ToTokens as _, quote};

    use super::*;

    fn parse(tokens: TokenStream) -> (RemoteArgs, Vec<String>) {
        let mut errors = Vec::new();
        let args = RemoteArgs::parse(tokens, &mut errors);
        (args, errors.iter().map(Error::to_string).collect())
    }

    fn parse_nanos(text: &str) -> Result<u64> {
        nanos(&LitStr::new(text, Span::call_site()))
    }

    #[test]
    fn timeout_is_an_integer_and_a_unit() {
        for (text, expected) in [
            ("7us", 7_000),
            ("500ms", 500_000_000),
            ("2s", 2_000_000_000),
            ("3m", 180_000_000_000),
            ("1h", 3_600_000_000_000),
            ("5124095h", 18_446_742_000_000_000_000),
        ] {
            assert_eq!(parse_nanos(text).unwrap(), expected, "{text}");
        }
        for text in
            ["", "2", "s", "1.5s", "-1s", "2 s", "2sec", "0s", "5124096h", "99999999999999999999s"]
        {
            assert!(parse_nanos(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_argument_is_read() {
        let (args, errors) = parse(
            quote!(name = "text.count", type = Count, inline, idempotent, timeout = "1us", crate = "a::b",),
        );
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(args.name.as_deref(), Some("text.count"));
        assert_eq!(args.ty.unwrap(), "Count");
        assert!(args.inline.is_some() && args.idempotent);
        assert_eq!(args.timeout_nanos, Some(1_000));
        assert_eq!(crate::types::text(args.krate.to_token_stream()), "a::b");
    }

    #[test]
    fn every_mistake_is_reported() {
        let (args, errors) = parse(
            quote!(nam = "x", inline = true, 5, name = "", timeout = 2, idempotent idempotent, idempotent),
        );
        let beginnings = [
            "`nam` is no argument",
            "`inline` takes no value",
            "this is no argument",
            "the name is empty",
            "`timeout` takes a string",
            "`idempotent` takes no value",
        ];
        assert_eq!(errors.len(), beginnings.len(), "{errors:#?}");
        for (error, beginning) in errors.iter().zip(beginnings) {
            assert!(error.starts_with(beginning), "{error}");
        }
        assert!(args.idempotent, "correct arguments are still read");
    }

    #[test]
    fn declaration_decides_about_the_client_side() {
        let (args, errors) = parse(quote!(timeout = "1s", implements = a::b, inline, idempotent));
        let refused = |name| format!("the declaration decides about `{name}`: remove it here");
        assert_eq!(errors, [refused("timeout"), refused("idempotent")]);
        assert_eq!(crate::types::text(args.implements.to_token_stream()), "a::b");
        let (_, errors) = parse(quote!(implements));
        assert!(errors[0].starts_with("`implements` takes the path"), "{errors:?}");
    }

    #[test]
    fn repeated_argument_is_refused() {
        let (_, errors) = parse(quote!(inline, inline));
        assert_eq!(errors, ["`inline` is given twice: remove one"]);
    }
}
