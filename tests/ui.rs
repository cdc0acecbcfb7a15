//! Code that `#[remote]` accepts without a warning, and the compiler errors for all other code.

#[test]
fn accepts_every_shape_and_explains_every_mistake() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
