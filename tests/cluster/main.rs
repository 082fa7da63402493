//! Stories on a real cluster: needs root, and runs one test at a time (`cargo xtask test cluster`).
//!
//! Tests of one file share a lab, which starts with the first of them and ends with the test program, however that ends.

mod another;
mod demo;
mod lab;
mod machine;
