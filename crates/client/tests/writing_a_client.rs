//! What the compiler says of programs that get it wrong.

#[test]
fn mistakes_are_named_by_the_compiler() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/compiler_messages/*.rs");
}
