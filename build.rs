//! Compiles what the static executable takes instead of musl's own.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/memory.c");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|it| it == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        cc::Build::new()
            .file("src/memory.c")
            // Also when nothing else is optimised: the compiler must not make calls of itself.
            .opt_level(2)
            .flag("-fno-builtin")
            .flag_if_supported("-fno-tree-loop-distribute-patterns")
            .compile("memory");
    }
}
