package server

import "fmt"

// DirectoryError says that the data directory can't be used: it is no directory, may not be written, or
// holds something that is not Locus's. Nothing in it was changed.
type DirectoryError struct {
	Path  string
	Cause error
}

func (e *DirectoryError) Error() string {
	return fmt.Sprintf("server: data directory %s can't be used: %v", e.Path, e.Cause)
}
func (e *DirectoryError) Unwrap() error { return e.Cause }

// DirectoryInUseError says that another process has the data directory open.
type DirectoryInUseError struct{ Path string }

func (e *DirectoryInUseError) Error() string {
	return fmt.Sprintf("server: data directory %s is in use by another process", e.Path)
}

// FormatError says that a newer release wrote the data directory.
type FormatError struct {
	Path      string
	Have      int // what the directory has
	Supported int // the newest that this release reads
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("server: data directory %s has data format %d, and this release reads formats up to %d; use a newer release",
		e.Path, e.Have, e.Supported)
}

// OtherClusterError says that the data directory belongs to another cluster than the nodes given to join.
type OtherClusterError struct {
	Path           string
	Have, Contacts string // cluster ids
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("server: data directory %s belongs to cluster %s, but the nodes to join are of cluster %s",
		e.Path, e.Have, e.Contacts)
}

// ListenError says that an address can't be listened on, for example because it is in use.
type ListenError struct {
	Address, Use string
	Cause        error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("server: can't listen on %s for %s: %v", e.Address, e.Use, e.Cause)
}
func (e *ListenError) Unwrap() error { return e.Cause }
