//go:build !linux

package vfs

import "os"

func datasync(f *os.File) error { return f.Sync() }

func reserve(*os.File, int64) error { return nil }

// lockFile does nothing here: only Linux is supported for production.
func lockFile(*os.File) error { return nil }
