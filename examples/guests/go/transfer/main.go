// Command transfer moves an amount from one account of a group to another. ../../c/transfer.c and
// ../../rust/transfer.rs are the same.
//
// It is called on the group, which is what the names of its accounts begin with; the argument is "FROM TO AMOUNT", the
// result is the two balances. An account is a decimal number under its key.
package main

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/locuskv/locus/udf/guest"
)

var (
	errBadArgument = guest.Error(guest.CodeBadArgument, "the argument must be FROM TO AMOUNT, an amount of at least 1 between two accounts")
	errNotEnough   = guest.Error(1, "there is not enough in the account")
	errNoAccount   = guest.Error(2, "there is no such account")
	errNotANumber  = guest.Error(3, "an account does not hold a decimal number")
	errTooMuch     = guest.Error(4, "the account can't hold that much")
)

const maxName = 64

func init() {
	guest.ReadWrite("transfer", transfer, guest.Raw(), guest.Reads("accounts/"), guest.Writes("accounts/"), guest.MaxResult(64))
}

func transfer(_ context.Context, tx guest.Tx, arg string) (string, error) {
	words := strings.Split(arg, " ")
	if len(words) != 3 || bad(words[0]) || bad(words[1]) || words[0] == words[1] {
		return "", errBadArgument
	}
	amount, err := integer([]byte(words[2]))
	if err != nil || amount < 1 {
		return "", errBadArgument
	}
	group := string(tx.Call().Key)
	keys := [][]byte{[]byte(group + words[0]), []byte(group + words[1])}
	values, err := tx.GetMany(keys)
	if err != nil {
		return "", err
	}
	var balance [2]int64
	for i, value := range values {
		if value == nil {
			return "", errNoAccount
		}
		if balance[i], err = integer(value); err != nil {
			return "", errNotANumber
		}
	}
	if balance[0] < amount {
		return "", errNotEnough
	}
	if balance[1] > math.MaxInt64-amount {
		return "", errTooMuch
	}
	balance[0] -= amount
	balance[1] += amount
	for i, key := range keys {
		if err := tx.Put(key, strconv.AppendInt(nil, balance[i], 10)); err != nil {
			return "", err
		}
	}
	return strconv.FormatInt(balance[0], 10) + " " + strconv.FormatInt(balance[1], 10), nil
}

func bad(name string) bool { return name == "" || len(name) > maxName }

// integer reads decimal digits, with a '-' or without.
func integer(b []byte) (int64, error) {
	if len(b) > 0 && b[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(string(b), 10, 64)
}

// main is never called: the host runs init functions only.
func main() {}
