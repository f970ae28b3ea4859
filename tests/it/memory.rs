//! `src/memory.c` does what the functions of libc do that it replaces in the static executable.

use std::path::Path;
use std::process::Command;

#[test]
fn each_copy_and_comparison_is_that_of_libc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let (object, check) = (folder.path().join("memory.o"), folder.path().join("check"));
    let renamed = ["memmove", "memcpy", "memcmp", "bcmp"];
    // An alias is named in a string, which the preprocessor leaves alone.
    let source = std::fs::read_to_string(root.join("src/memory.c")).unwrap();
    let source = renamed.iter().fold(source, |text, name| {
        text.replace(
            &format!("alias(\"{name}\")"),
            &format!("alias(\"own_{name}\")"),
        )
    });
    let renamed_source = folder.path().join("memory.c");
    std::fs::write(&renamed_source, source).unwrap();
    compile(
        Command::new("cc")
            .args(["-O2", "-fno-builtin", "-Wall", "-Wextra", "-Werror", "-c"])
            .args(renamed.map(|name| format!("-D{name}=own_{name}")))
            .arg(&renamed_source)
            .arg("-o")
            .arg(&object),
    );
    compile(
        Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror"])
            .arg(root.join("tests/it/memory/check.c"))
            .arg(&object)
            .arg("-o")
            .arg(&check),
    );
    let checked = Command::new(&check).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains(" copies, "), "{said}");
}

fn compile(command: &mut Command) {
    let compiled = command.output().expect("a C compiler");
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{errors}");
}
