//! Functions for Locus in Rust: version 1 of the ABI (docs/abi.md), without std, without an allocator, without
//! dependencies. A whole guest, which squares a number:
//!
//! ```ignore
//! #![no_std]
//! locus::no_std!();
//! locus::manifest!("function square pure json\n");
//! locus::call!(64, |_function, arg, out| {
//!     let x = locus::json_integer(arg).ok_or(locus::bad_argument("a whole number is needed"))?;
//!     out.integer(x.wrapping_mul(x))
//! });
//! ```
//!
//! It is a `cdylib`, and builds with cargo or with rustc alone, with the standard library of the target
//! `wasm32-unknown-unknown` (rustup target add, or Debian's package libstd-rust-dev-wasm32):
//!
//! ```sh
//! rustc --edition 2021 --target wasm32-unknown-unknown -O -C panic=abort --crate-type rlib --crate-name locus src/lib.rs
//! rustc --edition 2021 --target wasm32-unknown-unknown -O -C panic=abort --crate-type cdylib --extern locus=liblocus.rlib \
//!     -C lto -C strip=symbols -C link-arg=--stack-first -C link-arg=-zstack-size=16384 -o square.wasm square.rs
//! locus fn register square square.wasm
//! ```
//!
//! The macros define what the host calls: [`manifest!`] in every guest, [`call!`] for pure, read-only and read-write
//! functions, [`range!`] for range functions, [`map!`] for map functions, [`no_std!`] where there is no std. A
//! module with several functions has them all in one manifest, and tells them apart by `function`: the function's
//! number in it, from 0.
//!
//! What it guarantees: nothing that the host hands out is read outside of its bounds; an error that a function
//! returns reaches the caller with its code, and the call writes nothing. What it never does: it allocates nothing but
//! the buffer for the host, which grows to what the host asks for.
//!
//! Buffers are yours: `get` copies a value into the one you give, and what is too long for it is an error. Statics
//! outlive a call, and an instance serves many: keep nothing in them from one call to the next.
#![no_std]

mod host {
    #[link(wasm_import_module = "locus")]
    extern "C" {
        pub fn get(key: *const u8, key_len: u32, buf: *mut u8, cap: u32) -> i64;
        pub fn get_many(keys: *const u8, keys_len: u32, buf: *mut u8, cap: u32) -> i64;
        pub fn scan_open(start: *const u8, start_len: u32, end: *const u8, end_len: u32) -> i32;
        pub fn scan_next(scan: i32, buf: *mut u8, cap: u32) -> i64;
        pub fn scan_close(scan: i32);
        pub fn put(key: *const u8, key_len: u32, value: *const u8, value_len: u32, ttl_ms: i64) -> i32;
        pub fn delete(key: *const u8, key_len: u32) -> i32;
        pub fn emit(ptr: *const u8, len: u32) -> i32;
        pub fn error(code: i64, msg: *const u8, len: u32);
        pub fn log(line: *const u8, len: u32);
        pub fn timestamp() -> u64;
        pub fn call_id(buf: *mut u8);
        pub fn key(buf: *mut u8, cap: u32) -> i64;
        pub fn random(buf: *mut u8, len: u32);
    }
}

/// Why a function ends without a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error {
    /// The host knows better: a limit, a key outside of the group or of what the manifest allows.
    Host,
    /// The function's own refusal; codes are above 0, or [`BAD_ARGUMENT`], or 0 for one without a code.
    Own { code: i64, message: &'static str },
}

/// What fallible things return.
pub type Result<T> = core::result::Result<T, Error>;

/// The code of an argument that can't be read: the caller gets an invalid-argument error.
pub const BAD_ARGUMENT: i64 = -2;

/// The function's own refusal, with a code above 0.
pub const fn error(code: i64, message: &'static str) -> Error {
    Error::Own { code, message }
}

/// The refusal of an argument.
pub const fn bad_argument(message: &'static str) -> Error {
    Error::Own { code: BAD_ARGUMENT, message }
}

const TOO_LONG: Error = Error::Own { code: 0, message: "what the host gave is longer than the buffer for it" };

/// What the host copied into buf: Err if it failed or did not fit, None if there was nothing to copy.
fn copied(n: i64, buf: &[u8]) -> Result<Option<&[u8]>> {
    match n {
        -1 => Ok(None),
        n if n < 0 => Err(Error::Host),
        n if n as u64 > buf.len() as u64 => Err(TOO_LONG),
        n => Ok(Some(&buf[..n as usize])),
    }
}

fn done(answer: i32) -> Result<()> {
    if answer < 0 {
        Err(Error::Host)
    } else {
        Ok(())
    }
}

/// The value of a key, copied to buf; None if the key does not exist.
pub fn get<'a>(key: &[u8], buf: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    let n = unsafe { host::get(key.as_ptr(), key.len() as u32, buf.as_mut_ptr(), buf.len() as u32) };
    copied(n, buf)
}

/// Keys for [`get_many`], in N bytes: each takes its length and 4.
pub struct Keys<const N: usize> {
    packed: [u8; N],
    len: usize,
}

impl<const N: usize> Keys<N> {
    pub const fn new() -> Self {
        Keys { packed: [0; N], len: 0 }
    }

    /// Adds a key that is made of parts, 1,024 keys at most.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<()> {
        let n: usize = parts.iter().map(|p| p.len()).sum();
        let mut out = Output { buf: &mut self.packed, len: self.len };
        out.push(&(n as u32).to_le_bytes())?;
        for p in parts {
            out.push(p)?;
        }
        self.len = out.len;
        Ok(())
    }
}

impl<const N: usize> Default for Keys<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The values of keys in their order, copied to buf; None for a key that does not exist.
pub fn get_many<'a, const N: usize>(keys: &Keys<N>, buf: &'a mut [u8]) -> Result<Values<'a>> {
    let n = unsafe { host::get_many(keys.packed.as_ptr(), keys.len as u32, buf.as_mut_ptr(), buf.len() as u32) };
    Ok(Values { rest: copied(n, buf)?.unwrap_or(&[]) })
}

/// What [`get_many`] found.
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let n = u32::from_le_bytes(self.rest.get(..4)?.try_into().ok()?);
        self.rest = &self.rest[4..];
        if n == u32::MAX {
            return Some(None);
        }
        let value = self.rest.get(..n as usize)?;
        self.rest = &self.rest[n as usize..];
        Some(Some(value))
    }
}

/// A scan of the keys in [start, end); an empty end is no end. It is closed when it is dropped.
pub struct Scan(i32);

impl Scan {
    pub fn open(start: &[u8], end: &[u8]) -> Result<Scan> {
        let n = unsafe { host::scan_open(start.as_ptr(), start.len() as u32, end.as_ptr(), end.len() as u32) };
        done(n).map(|_| Scan(n))
    }

    /// The next batch, copied to buf; it is empty at the end. A batch is 64 KiB and the record that overshot.
    pub fn next<'a>(&mut self, buf: &'a mut [u8]) -> Result<Batch<'a>> {
        let n = unsafe { host::scan_next(self.0, buf.as_mut_ptr(), buf.len() as u32) };
        Ok(Batch(copied(n, buf)?.unwrap_or(&[])))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        unsafe { host::scan_close(self.0) }
    }
}

/// A run of records in key order: iterate over it.
#[derive(Clone, Copy)]
pub struct Batch<'a>(&'a [u8]);

/// One record of a batch.
pub struct Record<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// When it was written.
    pub timestamp: u64,
    /// From when on it no longer exists; 0 is never.
    pub expires: u64,
}

impl<'a> Batch<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let b = self.0;
        let word = |at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
        let head = word(0)?;
        let timestamp = word(8)?;
        let (mut at, mut expires) = (16, 0);
        if head >> 16 & 1 != 0 {
            expires = word(16)?;
            at = 24;
        }
        let value_at = at + (head & 0xffff) as usize;
        let end = value_at + (head >> 32) as usize;
        let (key, value) = (b.get(at..value_at)?, b.get(value_at..end)?);
        self.0 = &b[end..];
        Some(Record { key, value, timestamp, expires })
    }
}

/// Writes a value that never expires.
pub fn put(key: &[u8], value: &[u8]) -> Result<()> {
    put_ttl(key, value, 0)
}

/// Writes a value that ceases to exist ttl_ms after the call's timestamp; 0 is never.
pub fn put_ttl(key: &[u8], value: &[u8], ttl_ms: i64) -> Result<()> {
    done(unsafe { host::put(key.as_ptr(), key.len() as u32, value.as_ptr(), value.len() as u32, ttl_ms) })
}

/// Deletes a key.
pub fn delete(key: &[u8]) -> Result<()> {
    done(unsafe { host::delete(key.as_ptr(), key.len() as u32) })
}

/// In a map function: an output.
pub fn emit(output: &[u8]) -> Result<()> {
    done(unsafe { host::emit(output.as_ptr(), output.len() as u32) })
}

/// The key or group that the call names, copied to buf.
pub fn key(buf: &mut [u8]) -> Result<&[u8]> {
    let n = unsafe { host::key(buf.as_mut_ptr(), buf.len() as u32) };
    Ok(copied(n, buf)?.unwrap_or(&[]))
}

/// The call's timestamp, which is the only clock: milliseconds since 1970 times 65,536, plus a counter.
pub fn timestamp() -> u64 {
    unsafe { host::timestamp() }
}

/// What identifies the call; a retry has the same.
pub fn call_id() -> [u8; 24] {
    let mut id = [0; 24];
    unsafe { host::call_id(id.as_mut_ptr()) };
    id
}

/// Fills buf with random bytes; a retry of the call draws the same.
pub fn random(buf: &mut [u8]) {
    unsafe { host::random(buf.as_mut_ptr(), buf.len() as u32) }
}

/// A line for the node's log, cut at 1 KiB; 32 a call.
pub fn log(line: &str) {
    unsafe { host::log(line.as_ptr(), line.len() as u32) }
}

/// Where a function writes its result.
pub struct Output<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        Output { buf, len: 0 }
    }

    /// Appends bytes; more than there is room for are an error.
    pub fn push(&mut self, b: &[u8]) -> Result<()> {
        let end = self.len + b.len();
        if end > self.buf.len() {
            return Err(Error::Own { code: 0, message: "the output is longer than the buffer for it" });
        }
        self.buf[self.len..end].copy_from_slice(b);
        self.len = end;
        Ok(())
    }

    /// Appends a number in decimal digits.
    pub fn integer(&mut self, v: i64) -> Result<()> {
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), v.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if v < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.push(&digits[at..])
    }

    /// What has been written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// A whole number in decimal digits, with a '-' or without, and nothing else.
pub fn integer(b: &[u8]) -> Option<i64> {
    let (negative, digits) = match b {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, b),
    };
    if digits.is_empty() {
        return None;
    }
    let mut v: i64 = 0; // below 0, where there is room for one more
    for &d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        v = v.checked_mul(10)?.checked_sub((d - b'0') as i64)?;
    }
    if negative {
        Some(v)
    } else {
        v.checked_neg()
    }
}

/// A JSON number without a fraction; null, and no bytes at all, are 0.
pub fn json_integer(b: &[u8]) -> Option<i64> {
    let space = |c: &u8| matches!(c, b' ' | b'\t' | b'\n' | b'\r');
    let from = b.iter().position(|c| !space(c)).unwrap_or(b.len());
    let to = b.iter().rposition(|c| !space(c)).map_or(from, |i| i + 1);
    match &b[from..to] {
        [] if b.is_empty() => Some(0),
        b"null" => Some(0),
        [b'0', _, ..] | [b'-', b'0', _, ..] => None, // a leading zero
        n => integer(n),
    }
}

/// A range function: one accumulator is begun for each range, batches are folded into it, the accumulators of all
/// ranges are merged, in any order, and the last one makes the result.
pub trait Fold: Sized {
    /// The empty accumulator of a run with an argument.
    fn begin(function: u32, arg: &[u8]) -> Result<Self>;
    fn add(&mut self, batch: Batch) -> Result<()>;
    /// Folds in what `encode` of another accumulator wrote.
    fn merge(&mut self, encoded: &[u8]) -> Result<()>;
    fn encode(&self, out: &mut Output) -> Result<()>;
    fn result(&self, out: &mut Output) -> Result<()>;
}

/// A map function: what it emits ([`emit`]) for each batch is streamed to the caller. No output may depend on how the
/// records are cut into batches.
pub trait Map: Sized {
    fn begin(function: u32, arg: &[u8]) -> Result<Self>;
    fn map(&mut self, batch: Batch) -> Result<()>;
}

/// Defines what every guest exports. The text is the manifest without its first line: "function NAME KIND CODEC\n",
/// and the lines of the function's capabilities.
#[macro_export]
macro_rules! manifest {
    ($entries:expr) => {
        #[no_mangle]
        pub extern "C" fn locus_abi_version() -> i32 {
            1
        }
        #[no_mangle]
        pub extern "C" fn locus_describe() -> u64 {
            $crate::entry::bytes(concat!("locus 1\n", $entries).as_bytes())
        }
        #[no_mangle]
        pub extern "C" fn locus_alloc(n: u32) -> *mut u8 {
            $crate::entry::alloc(n)
        }
    };
}

/// Defines the entry of pure, read-only and read-write functions: how long a result can be, and what serves a call,
/// `fn(function: u32, arg: &[u8], out: &mut Output) -> Result<()>`.
#[macro_export]
macro_rules! call {
    ($result_bytes:expr, $serve:expr) => {
        #[no_mangle]
        pub extern "C" fn locus_call(function: u32, ptr: *const u8, len: u32) -> u64 {
            static mut RESULT: [u8; $result_bytes] = [0; $result_bytes];
            let serve: fn(u32, &[u8], &mut $crate::Output) -> $crate::Result<()> = $serve;
            // The host makes one call at a time, and reads the result before the next.
            let buf = unsafe { core::slice::from_raw_parts_mut(core::ptr::addr_of_mut!(RESULT) as *mut u8, $result_bytes) };
            $crate::entry::produce(buf, |out| serve(function, unsafe { $crate::entry::input(ptr, len) }, out))
        }
    };
}

/// Defines the entries of range functions: how long an encoded accumulator or a result can be, and a type that is a
/// [`Fold`].
#[macro_export]
macro_rules! range {
    ($result_bytes:expr, $fold:ty) => {
        static mut LOCUS_RUN: Option<$fold> = None;
        static mut LOCUS_RESULT: [u8; $result_bytes] = [0; $result_bytes];

        // The host makes one call at a time, and reads the result before the next.
        fn locus_run() -> &'static mut Option<$fold> {
            unsafe { &mut *core::ptr::addr_of_mut!(LOCUS_RUN) }
        }
        fn locus_result() -> &'static mut [u8] {
            unsafe { core::slice::from_raw_parts_mut(core::ptr::addr_of_mut!(LOCUS_RESULT) as *mut u8, $result_bytes) }
        }
        #[no_mangle]
        pub extern "C" fn locus_range_init(function: u32, ptr: *const u8, len: u32) {
            $crate::entry::begin(locus_run(), <$fold as $crate::Fold>::begin(function, unsafe { $crate::entry::input(ptr, len) }))
        }
        #[no_mangle]
        pub extern "C" fn locus_range_add(ptr: *const u8, len: u32) {
            let batch = unsafe { $crate::entry::batch(ptr, len) };
            $crate::entry::step(locus_run(), |f| $crate::Fold::add(f, batch))
        }
        #[no_mangle]
        pub extern "C" fn locus_range_merge(ptr: *const u8, len: u32) {
            let encoded = unsafe { $crate::entry::input(ptr, len) };
            $crate::entry::step(locus_run(), |f| $crate::Fold::merge(f, encoded))
        }
        #[no_mangle]
        pub extern "C" fn locus_range_encode() -> u64 {
            $crate::entry::produce(locus_result(), |out| $crate::Fold::encode($crate::entry::run(locus_run())?, out))
        }
        #[no_mangle]
        pub extern "C" fn locus_range_result() -> u64 {
            $crate::entry::produce(locus_result(), |out| $crate::Fold::result($crate::entry::run(locus_run())?, out))
        }
    };
}

/// Defines the entries of map functions, of a type that is a [`Map`].
#[macro_export]
macro_rules! map {
    ($map:ty) => {
        static mut LOCUS_RUN: Option<$map> = None;

        #[no_mangle]
        pub extern "C" fn locus_range_init(function: u32, ptr: *const u8, len: u32) {
            let run = unsafe { &mut *core::ptr::addr_of_mut!(LOCUS_RUN) };
            $crate::entry::begin(run, <$map as $crate::Map>::begin(function, unsafe { $crate::entry::input(ptr, len) }))
        }
        #[no_mangle]
        pub extern "C" fn locus_map(ptr: *const u8, len: u32) -> u64 {
            let run = unsafe { &mut *core::ptr::addr_of_mut!(LOCUS_RUN) };
            let batch = unsafe { $crate::entry::batch(ptr, len) };
            $crate::entry::step(run, |m| $crate::Map::map(m, batch));
            0
        }
    };
}

/// Defines what a crate without std must: a panic ends the call, and its place is in the node's log.
#[macro_export]
macro_rules! no_std {
    () => {
        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo) -> ! {
            $crate::entry::panicked(info)
        }
    };
}

/// What the macros are made of.
pub mod entry {
    use super::{host, log, Batch, Error, Output, Result};
    use core::arch::wasm32::{memory_grow, memory_size, unreachable};
    use core::ptr::addr_of_mut;

    const PAGE: usize = 64 << 10;

    // The buffer for the host: at first a small one, then memory of its own at the end.
    static mut FIRST: [u8; 4096] = [0; 4096];
    static mut INPUT: (*mut u8, usize) = (core::ptr::null_mut(), 0);

    /// A buffer of n bytes for the host, or null.
    pub fn alloc(n: u32) -> *mut u8 {
        // Nobody else uses the two statics, and a guest has one thread.
        let (input, first) = unsafe { (&mut *addr_of_mut!(INPUT), addr_of_mut!(FIRST) as *mut u8) };
        if input.0.is_null() {
            *input = (first, 4096);
        }
        let n = n as usize;
        if n > input.1 {
            let is_last = input.0 as usize + input.1 == memory_size(0) * PAGE;
            let pages = (n - if is_last { input.1 } else { 0 } - 1) / PAGE + 1;
            let at = memory_grow(0, pages);
            if at == usize::MAX {
                return core::ptr::null_mut();
            }
            *input = if is_last { (input.0, input.1 + pages * PAGE) } else { ((at * PAGE) as *mut u8, pages * PAGE) };
        }
        input.0
    }

    /// What the host has put into its buffer.
    ///
    /// # Safety
    /// The two are the host's, and the bytes are left alone until the entry returns.
    pub unsafe fn input<'a>(ptr: *const u8, len: u32) -> &'a [u8] {
        if len == 0 {
            return &[];
        }
        core::slice::from_raw_parts(ptr, len as usize)
    }

    /// The batch that the host has put into its buffer.
    ///
    /// # Safety
    /// As of [`input`].
    pub unsafe fn batch<'a>(ptr: *const u8, len: u32) -> Batch<'a> {
        Batch(input(ptr, len))
    }

    /// Pointer and length as the host takes them.
    pub fn bytes(b: &[u8]) -> u64 {
        (b.as_ptr() as usize as u64) << 32 | b.len() as u64
    }

    /// Runs what writes a result, and returns it to the host.
    pub fn produce(buf: &mut [u8], write: impl FnOnce(&mut Output) -> Result<()>) -> u64 {
        let mut out = Output::new(buf);
        match write(&mut out) {
            Ok(()) => bytes(out.bytes()),
            Err(e) => {
                fail(e);
                0
            }
        }
    }

    /// Begins a run.
    pub fn begin<T>(run: &mut Option<T>, begun: Result<T>) {
        *run = match begun {
            Ok(t) => Some(t),
            Err(e) => {
                fail(e);
                None
            }
        }
    }

    /// The run under way.
    pub fn run<T>(run: &mut Option<T>) -> Result<&mut T> {
        run.as_mut().ok_or(Error::Own { code: 0, message: "no run is under way" })
    }

    /// One step of the run under way.
    pub fn step<T>(r: &mut Option<T>, f: impl FnOnce(&mut T) -> Result<()>) {
        if let Err(e) = run(r).and_then(f) {
            fail(e)
        }
    }

    fn fail(e: Error) {
        if let Error::Own { code, message } = e {
            unsafe { host::error(code, message.as_ptr(), message.len() as u32) }
        }
    }

    /// Ends the guest.
    pub fn panicked(info: &core::panic::PanicInfo) -> ! {
        if let Some(at) = info.location() {
            let mut buf = [0; 256];
            let mut out = Output::new(&mut buf);
            let told = out.push(b"panic at ").and_then(|_| out.push(at.file().as_bytes())).and_then(|_| out.push(b":"));
            if told.and_then(|_| out.integer(at.line() as i64)).is_ok() {
                log(core::str::from_utf8(out.bytes()).unwrap_or("panic"));
            }
        }
        unreachable()
    }
}
