package wasm

import "golang.org/x/sys/unix"

// reserve takes addresses, and no memory.
func reserve(size uint64) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		// A guest touches a little here and there: with huge pages it would have 2 MiB at once. It works without, too.
		_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	}
	return b, err
}

// commit makes reserved addresses usable: they read as zeros, and take memory as they are written.
func commit(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
}

// release gives reserved addresses back, with what memory they have.
func release(b []byte) { _ = unix.Munmap(b) } // it fails only for what was not reserved
