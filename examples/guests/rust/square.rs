//! square: the smallest guest in Rust, a pure function. ../go/square and ../c/square.c are the same.
#![no_std]

use locus::{bad_argument, json_integer, Output, Result};

locus::no_std!();
locus::manifest!("function square pure json\n");
locus::call!(32, square);

fn square(_function: u32, arg: &[u8], out: &mut Output) -> Result<()> {
    let x = json_integer(arg).ok_or(bad_argument("the argument must be a whole number"))?;
    out.integer(x.wrapping_mul(x))
}
