//! everything: what the crate has that the examples do not use. The tests of package udf/wasm run it.
#![no_std]

use locus::{Batch, Map, Output, Result, Scan};

locus::no_std!();
locus::manifest!(
    "function scan read-only raw\nfunction misc read-write raw\nfunction panic pure raw\nfunction keys map raw\n"
);
locus::call!(256, call);
locus::map!(KeysOf);

static mut BATCH: [u8; 96 << 10] = [0; 96 << 10];

fn call(function: u32, arg: &[u8], out: &mut Output) -> Result<()> {
    match function {
        0 => scan(arg, out),
        1 => misc(arg, out),
        _ => panic!("on purpose"),
    }
}

/// "RECORDS BYTES" from arg on.
fn scan(arg: &[u8], out: &mut Output) -> Result<()> {
    let buf = unsafe { &mut *core::ptr::addr_of_mut!(BATCH) };
    let (mut records, mut bytes, mut expiring) = (0, 0, 0);
    let mut scan = Scan::open(arg, b"")?;
    loop {
        let batch = scan.next(buf)?;
        if batch.is_empty() {
            break;
        }
        for r in batch {
            records += 1;
            bytes += r.key.len() + r.value.len();
            expiring += (r.expires != 0) as i64;
        }
    }
    out.integer(records)?;
    out.push(b" ")?;
    out.integer(bytes as i64)?;
    out.push(b" ")?;
    out.integer(expiring)
}

/// The call's id, timestamp and key, and 8 random bytes; and some writes, one after the other.
fn misc(arg: &[u8], out: &mut Output) -> Result<()> {
    locus::put_ttl(b"written", arg, 1500)?;
    locus::delete(b"gone")?;
    locus::log("a line");
    let (mut key, mut random) = ([0; 64], [0; 8]);
    locus::random(&mut random);
    out.push(&locus::call_id())?;
    out.push(&locus::timestamp().to_le_bytes())?;
    out.push(&random)?;
    out.push(locus::key(&mut key)?)
}

/// Emits keys that begin with its argument's first byte.
struct KeysOf(u8);

impl Map for KeysOf {
    fn begin(_function: u32, arg: &[u8]) -> Result<Self> {
        arg.first().map(|&c| KeysOf(c)).ok_or(locus::bad_argument("a letter is needed"))
    }

    fn map(&mut self, batch: Batch) -> Result<()> {
        for r in batch {
            if r.key.first() == Some(&self.0) {
                locus::emit(r.key)?;
            }
        }
        Ok(())
    }
}
