package wasm

import "time"

// Bounds that are not options: they exist to keep one guest from harming its node, and no honest guest
// comes near them.
const (
	maxTableElements = 1 << 20 // of all tables of a module together: 8 MiB of pointers
	maxLocals        = 50_000  // of one function; the compiler allocates for each
	maxSections      = 1_000
	maxOpenScans     = 16
	maxGetMany       = 1_024 // keys of one get_many
	maxLogLines      = 32
	maxLogLine       = 1 << 10
	maxErrorMessage  = 4 << 10
	maxStderr        = 4 << 10 // kept for the message of a guest that exits
	initTimeout      = 20 * time.Second
)
