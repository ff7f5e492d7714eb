//! fixedsum: a range function over records of a fixed binary layout. ../go/fixedsum and ../c/fixedsum.c are the same.
//!
//! The argument is where a field stands in each value: an offset in bytes. The field is a 64-bit number, little endian;
//! the result counts the records and sums the fields, modulo 2^64: {"count":3,"sum":42}.
#![no_std]

use locus::{bad_argument, error, json_integer, Batch, Error, Fold, Output, Result};

locus::no_std!();
locus::manifest!("function fixedsum range json\n");
locus::range!(64, Sum);

const BAD_ARGUMENT: Error = bad_argument("the argument must be the offset of a field: a whole number from 0 to 524280");
const TOO_SHORT: Error = error(1, "a value ends before the field does");

struct Sum {
    offset: usize,
    count: i64,
    sum: i64,
}

impl Fold for Sum {
    fn begin(_function: u32, arg: &[u8]) -> Result<Sum> {
        match json_integer(arg) {
            Some(offset) if (0..=524280).contains(&offset) => Ok(Sum { offset: offset as usize, count: 0, sum: 0 }),
            _ => Err(BAD_ARGUMENT),
        }
    }

    fn add(&mut self, batch: Batch) -> Result<()> {
        for r in batch {
            let field = r.value.get(self.offset..self.offset + 8).ok_or(TOO_SHORT)?;
            self.sum = self.sum.wrapping_add(number(field));
            self.count += 1;
        }
        Ok(())
    }

    fn merge(&mut self, encoded: &[u8]) -> Result<()> {
        if encoded.len() != 16 {
            return Err(error(0, "an accumulator is not 16 bytes long"));
        }
        self.count += number(&encoded[..8]);
        self.sum = self.sum.wrapping_add(number(&encoded[8..]));
        Ok(())
    }

    fn encode(&self, out: &mut Output) -> Result<()> {
        out.push(&self.count.to_le_bytes())?;
        out.push(&self.sum.to_le_bytes())
    }

    fn result(&self, out: &mut Output) -> Result<()> {
        out.push(b"{\"count\":")?;
        out.integer(self.count)?;
        out.push(b",\"sum\":")?;
        out.integer(self.sum)?;
        out.push(b"}")
    }
}

fn number(b: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(b);
    i64::from_le_bytes(bytes)
}
