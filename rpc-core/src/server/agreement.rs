//! The agreement between what a caller expects and what this server is: the process that it speaks
//! to, and the parameters of the function. No I/O.

use crate::{
    error::Ran,
    function::Signature,
    protocol::{
        control,
        error::{Code, WireError},
        request::Options,
    },
    server::service::Service,
    util::cut::cut_name,
};

/// The largest number of parameters that are shown.
const MOST_NAMES: usize = 16;

/// Checks what a request states about the server and the function.
///
/// # Errors
/// Returns `other_instance` for a request that is meant for another process, and `bad_arguments` if
/// the caller's parameters have other names, or another order.
pub(crate) fn check(
    service: &Service,
    signature: &Signature,
    options: &Options<'_>,
) -> Result<(), WireError> {
    if options.instance.is_some_and(|instance| instance != service.instance) {
        let text = "the request is for another server process, and this one is not asked";
        return Err(WireError::new(Code::OtherInstance, Ran::No, text));
    }
    options.params.map_or(Ok(()), |params| check_names(signature, params))
}

/// Compares the names of the caller's parameters with those of the function. Either side may have
/// more parameters at the end, because optional ones can be added there.
fn check_names(signature: &Signature, stated: &[u8]) -> Result<(), WireError> {
    let bad = |text: String| WireError::new(Code::BadArguments, Ran::No, text);
    let Some(stated) = control::read_param_names(stated) else {
        return Err(bad("the names of the parameters are no array of texts".to_owned()));
    };
    if stated.iter().zip(signature.params).all(|(stated, param)| stated == param.name) {
        return Ok(());
    }
    let shown: Vec<_> = stated.iter().take(MOST_NAMES).map(|name| cut_name(name)).collect();
    let own: Vec<_> = signature.params.iter().map(|param| param.name).collect();
    let (name, shown, own) = (signature.name, shown.join(", "), own.join(", "));
    Err(bad(format!(
        "the caller declares `{name}({shown})`, and the server has `{name}({own})`: arguments travel \
         by position, so both need the same names in the same order"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, function::Param};

    static PARAMS: [Param; 2] = [Param::new("from", "u8"), Param::new("to", "u8")];
    static TRANSFER: Signature = Signature::new("transfer", "", &PARAMS);

    #[test]
    fn names_must_agree_as_far_as_both_have_them() {
        let check = |names: &[&str]| check_names(&TRANSFER, &codec::to_vec(&names).unwrap());
        for names in [&["from", "to"][..], &["from"], &[], &["from", "to", "memo"]] {
            check(names).unwrap();
        }
        for names in [&["to", "from"][..], &["from", "too"], &["a"]] {
            assert_eq!(check(names).unwrap_err().code, Code::BadArguments, "{names:?}");
        }
        assert_eq!(
            check(&["to", "from"]).unwrap_err().message,
            "the caller declares `transfer(to, from)`, and the server has `transfer(from, to)`: \
             arguments travel by position, so both need the same names in the same order"
        );
    }

    #[test]
    fn long_names_are_cut() {
        let names = vec!["x".repeat(10_000); 1_000];
        let error = check_names(&TRANSFER, &codec::to_vec(&names).unwrap()).unwrap_err();
        assert!(error.message.len() < 2_000);
        check_names(&TRANSFER, b"\x91\x07").unwrap_err();
    }
}
