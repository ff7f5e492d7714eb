//! transfer: moves an amount from one account of a group to another. ../go/transfer and ../c/transfer.c are the same.
//!
//! It is called on the group, which is what the names of its accounts begin with; the argument is "FROM TO AMOUNT", the
//! result is the two balances. An account is a decimal number under its key.
#![no_std]

use locus::{bad_argument, error, get_many, integer, key, put, Error, Keys, Output, Result};

locus::no_std!();
locus::manifest!("function transfer read-write raw\nreads accounts/\nwrites accounts/\nlimit result 64\n");
locus::call!(64, transfer);

const BAD_ARGUMENT: Error = bad_argument("the argument must be FROM TO AMOUNT, an amount of at least 1 between two accounts");
const NOT_ENOUGH: Error = error(1, "there is not enough in the account");
const NO_ACCOUNT: Error = error(2, "there is no such account");
const NOT_A_NUMBER: Error = error(3, "an account does not hold a decimal number");
const TOO_MUCH: Error = error(4, "the account can't hold that much");

const MAX_NAME: usize = 64;

fn transfer(_function: u32, arg: &[u8], out: &mut Output) -> Result<()> {
    let mut words = arg.split(|&c| c == b' ');
    let (from, to, amount) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(from), Some(to), Some(amount), None) => (from, to, integer(amount).ok_or(BAD_ARGUMENT)?),
        _ => return Err(BAD_ARGUMENT),
    };
    let good = |name: &[u8]| !name.is_empty() && name.len() <= MAX_NAME;
    if !good(from) || !good(to) || from == to || amount < 1 {
        return Err(BAD_ARGUMENT);
    }

    let (mut group, mut values) = ([0; 256], [0; 256]);
    let group = key(&mut group)?;
    let mut keys = Keys::<{ 2 * (256 + MAX_NAME + 4) }>::new();
    keys.push(&[group, from])?;
    keys.push(&[group, to])?;
    let mut found = get_many(&keys, &mut values)?;
    let mut balance = || -> Result<i64> { integer(found.next().flatten().ok_or(NO_ACCOUNT)?).ok_or(NOT_A_NUMBER) };
    let (a, b) = (balance()?, balance()?);
    if a < amount {
        return Err(NOT_ENOUGH);
    }
    let (a, b) = (a - amount, b.checked_add(amount).ok_or(TOO_MUCH)?);

    set(group, from, a)?;
    set(group, to, b)?;
    out.integer(a)?;
    out.push(b" ")?;
    out.integer(b)
}

fn set(group: &[u8], name: &[u8], balance: i64) -> Result<()> {
    let (mut key, mut value) = ([0; 256 + MAX_NAME], [0; 20]);
    let (mut key, mut value) = (Output::new(&mut key), Output::new(&mut value));
    key.push(group)?;
    key.push(name)?;
    value.integer(balance)?;
    put(key.bytes(), value.bytes())
}
