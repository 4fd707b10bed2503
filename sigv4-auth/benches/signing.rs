//! What signing costs beside the hash of the body.

fn main() {
    divan::main();
}
