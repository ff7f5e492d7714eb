package vfs

// Op is an operation into which a fault can be injected.
type Op string

// The operations. OpTruncate is also Preallocate; OpStat is also File.Size.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpList     Op = "list"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
	OpStat     Op = "stat"
	OpLock     Op = "lock"
)

type faults struct {
	nth  []nthFault
	hook func(op Op, name string) error
}

type nthFault struct {
	op   Op
	left int
	err  error
}

// FailNth makes the nth next operation of a kind (1: the next one) fail with err, once. syscall.EIO and
// syscall.ENOSPC are the usual errors. A write that fails leaves half of its bytes; a sync that fails leaves the
// bytes to chance, and later syncs do not save them.
func (m *Memory) FailNth(op Op, n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.nth = append(m.faults.nth, nthFault{op: op, left: n, err: err})
}

// SetHook calls f before every operation, with the file's cleaned name; what it returns is the operation's error.
// f must not call the file system. nil removes it.
func (m *Memory) SetHook(f func(op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.hook = f
}

// ClearFaults takes back what FailNth and SetHook asked for.
func (m *Memory) ClearFaults() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = faults{}
}

func (f *faults) check(op Op, name string) error {
	var err error
	keep := f.nth[:0]
	for _, fault := range f.nth {
		if fault.op == op {
			fault.left--
			if fault.left <= 0 {
				err = fault.err
				continue
			}
		}
		keep = append(keep, fault)
	}
	f.nth = keep
	if err == nil && f.hook != nil {
		err = f.hook(op, name)
	}
	return err
}
