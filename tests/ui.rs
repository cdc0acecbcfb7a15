//! Code that `#[remote]` accepts without a warning, and the compiler errors for all other code.

#[test]
fn macro_accepts_shapes_and_explains_mistakes() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
