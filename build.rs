//! Compiles the hook that suspends scripts: see src/script/hook.c.

fn main() {
    println!("cargo::rerun-if-changed=src/script/hook.c");
    cc::Build::new()
        .file("src/script/hook.c")
        .flag("-fexceptions")
        .compile("pinion_script_hook");
}
