package udf

import (
	"embed"
	"io/fs"
)

//go:embed guest internal/shape internal/coder
var sources embed.FS

// GuestSources are the sources of the guest SDKs, under their paths in this folder: guest, with guest/c and guest/rust in
// it, and the internal packages that it needs. They are part of the binary, so that a project that is begun with it
// needs no copy of Locus.
func GuestSources() fs.FS { return sources }
