package server

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

const (
	// maxAccounts bounds the versions of functions that are told apart, here and in the metrics' labels. More make one account.
	maxAccounts = 200
	// maxRangeAccounts bounds the ranges that are told apart for one version. More make range 0's.
	maxRangeAccounts = 1024
	// otherFunctions is the name of the account of those that were too many; no function can have it.
	otherFunctions = "(other)"
)

// failure is a kind of error, as accounts have it.
type failure int

// The kinds of errors, by name in failureNames.
const (
	failedByFunction failure = iota
	failedByTrap
	failedByFuel
	failedByLimit
	failedByPermission
	failedByGroup
	failedByArgument
	failedByTime
	failedOtherwise
	failures
)

// failureNames are the kinds as users and metrics see them.
var failureNames = [failures]string{
	"function", "trap", "fuel", "limit", "permission", "group", "argument", "deadline", "other",
}

// trapCode is the code of a *api.FunctionError that the host made of a guest's crash.
const trapCode = -1

func failureOf(err error) failure {
	switch api.CodeOf(err) {
	case api.CodeFunction:
		var own *api.FunctionError
		if errors.As(err, &own) && own.Code == trapCode {
			return failedByTrap
		}
		return failedByFunction
	case api.CodeFuelExhausted:
		return failedByFuel
	case api.CodeLimit:
		return failedByLimit
	case api.CodePermission:
		return failedByPermission
	case api.CodeNotOneGroup:
		return failedByGroup
	case api.CodeInvalidArgument:
		return failedByArgument
	case api.CodeDeadline:
		return failedByTime
	}
	return failedOtherwise
}

// usage is what a call, a run, or a part of one took.
type usage struct {
	rangeID                      ids.RangeID // 0: it ran on none
	part                         bool        // of a run, which is counted by its gateway
	err                          error
	fuel                         uint64
	time                         time.Duration
	recordsRead, bytesRead       uint64
	recordsWritten, bytesWritten uint64
}

// account adds up.
type account struct {
	calls, parts, fuel, nanoseconds                      atomic.Uint64
	recordsRead, bytesRead, recordsWritten, bytesWritten atomic.Uint64
	errors                                               [failures]atomic.Uint64
}

func (a *account) add(u *usage) {
	if u.part {
		a.parts.Add(1)
	} else {
		a.calls.Add(1)
	}
	if u.err != nil {
		a.errors[failureOf(u.err)].Add(1)
	}
	a.fuel.Add(u.fuel)
	a.nanoseconds.Add(uint64(u.time.Nanoseconds()))
	a.recordsRead.Add(u.recordsRead)
	a.bytesRead.Add(u.bytesRead)
	a.recordsWritten.Add(u.recordsWritten)
	a.bytesWritten.Add(u.bytesWritten)
}

func (a *account) stats(v functionVersion, id ids.RangeID) *locuspb.FunctionStats {
	out := &locuspb.FunctionStats{
		Name: v.name, Version: v.version, RangeId: uint64(id), Calls: a.calls.Load(), Parts: a.parts.Load(), Fuel: a.fuel.Load(),
		Nanoseconds: a.nanoseconds.Load(), RecordsRead: a.recordsRead.Load(), BytesRead: a.bytesRead.Load(),
		RecordsWritten: a.recordsWritten.Load(), BytesWritten: a.bytesWritten.Load(),
	}
	for kind := range a.errors {
		if n := a.errors[kind].Load(); n > 0 {
			if out.Errors == nil {
				out.Errors = make(map[string]uint64)
			}
			out.Errors[failureNames[kind]] = n
		}
	}
	return out
}

// functionAccount is what a version of a function has done, in all and by range.
type functionAccount struct {
	total account
	mu    sync.RWMutex
	on    map[ids.RangeID]*account
}

// accounts are what functions have done on this node since it started.
type accounts struct {
	// registered says whether a version is there still: the accounts of others make room when there are too many.
	registered func(functionVersion) bool

	mu sync.RWMutex
	by map[functionVersion]*functionAccount
}

func newAccounts(registered func(functionVersion) bool) *accounts {
	return &accounts{registered: registered, by: make(map[functionVersion]*functionAccount)}
}

// add enters what a function took. v has been resolved: names that nobody has make no accounts.
func (a *accounts) add(v functionVersion, u *usage) {
	f := a.of(v)
	f.of(u.rangeID).add(u)
	if u.part { // the run that it makes fail is entered by its gateway
		whole := *u
		whole.err = nil
		u = &whole
	}
	f.total.add(u)
}

func (a *accounts) of(v functionVersion) *functionAccount {
	a.mu.RLock()
	f := a.by[v]
	a.mu.RUnlock()
	if f != nil {
		return f
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by[v] == nil && len(a.by) >= maxAccounts {
		for x := range a.by {
			if x.name != otherFunctions && !a.registered(x) {
				delete(a.by, x)
			}
		}
		if len(a.by) >= maxAccounts {
			v = functionVersion{name: otherFunctions}
		}
	}
	if a.by[v] == nil {
		a.by[v] = &functionAccount{on: make(map[ids.RangeID]*account)}
	}
	return a.by[v]
}

func (f *functionAccount) of(id ids.RangeID) *account {
	f.mu.RLock()
	r := f.on[id]
	f.mu.RUnlock()
	if r != nil {
		return r
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on[id] == nil && len(f.on) >= maxRangeAccounts {
		id = 0
	}
	if f.on[id] == nil {
		f.on[id] = &account{}
	}
	return f.on[id]
}

// stats tells the accounts of one function, or of all if name is empty, in no order.
func (a *accounts) stats(name string, byRange bool) (out []*locuspb.FunctionStats) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for v, f := range a.by {
		switch {
		case name != "" && v.name != name:
		case !byRange:
			out = append(out, f.total.stats(v, 0))
		default:
			f.mu.RLock()
			for id, r := range f.on {
				out = append(out, r.stats(v, id))
			}
			f.mu.RUnlock()
		}
	}
	return out
}
