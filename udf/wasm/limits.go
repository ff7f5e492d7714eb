package wasm

import "time"

// Bounds that are not options: they exist to keep one guest from harming its node, and no honest guest
// comes near them.
const (
	maxTableElements = 1 << 20 // of all tables of a module together: 8 MiB of pointers
	maxSections      = 1_000
	maxOpenScans     = 16
	maxGetMany       = 1_024 // keys of one get_many
	maxLogLines      = 32
	maxLogLine       = 1 << 10
	maxErrorMessage  = 4 << 10
	maxStderr        = 4 << 10 // kept for the message of a guest that exits
	initTimeout      = 20 * time.Second
	initFuel         = 10_000_000_000
	shallowFuel      = 1_000_000 // what an entry uses without its stack being suspected to have grown much
)

// Prices of what the host does for a guest, in instructions: about what it takes of the processor. The time that the store needs
// is bounded by time.
const (
	hostFuel     = 500 // a call of the host
	bytesPerFuel = 8   // of keys, values, batches and messages
	randomFuel   = 4   // a byte of randomness
	itemFuel     = 100 // an element of what WASI is given a list of
)
