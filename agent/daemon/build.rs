//! How the program is linked. Its relocations are packed: they are read whole at each start, and would stay in memory as
//! a thirtieth of all there is (glibc reads the packed form since 2.36).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
