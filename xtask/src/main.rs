//! Build, run, test, image, perf.
fn main() {}
