package load

import (
	"flag"
	"fmt"
	"strconv"
	"time"
)

// Options say what is to be done. They are the same for every target.
type Options struct {
	// Workload is one of Workloads. Required.
	Workload string
	// Clients is how many operations are under way at a time, at most.
	Clients int
	// Duration is the measured time, after Warmup, which is not measured.
	Duration time.Duration
	Warmup   time.Duration
	// Keys is how many keys are loaded, and chosen from.
	Keys int
	// ValueSize is the length of each value written, in bytes.
	ValueSize int
	// Choice of keys: Uniform, Zipfian or Latest. Empty: the workload's own.
	Choice string
	// Rate is how many operations fall due per second (open loop). 0: each client issues its next when the one
	// before has ended (closed loop).
	Rate float64
	// Seed of the choices.
	Seed uint64
}

// Bounds on Options, so that a mistyped number is an error and not a machine without memory.
const (
	MaxClients   = 16_384
	MaxKeys      = 1_000_000_000
	MaxValueSize = 1 << 20
	MaxRate      = 10_000_000
	MaxDuration  = 30 * 24 * time.Hour
)

// Defaults are the options of somebody who gives only a workload.
func Defaults() Options {
	return Options{
		Clients: 64, Duration: 10 * time.Second, Warmup: 2 * time.Second, Keys: 100_000, ValueSize: 128, Seed: 1,
	}
}

// Flags makes a flag for each option; what the options hold is the flag's default.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.Workload, "workload", o.Workload, "what is done: `NAME` of a workload")
	f.IntVar(&o.Clients, "clients", o.Clients, "how many operations are under way at a time")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long is measured")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "how long is worked before, unmeasured")
	o.DataFlags(f)
	f.StringVar(&o.Choice, "choice", o.Choice, "how keys are chosen: uniform, zipfian or latest; default: as the workload does")
	f.Float64Var(&o.Rate, "rate", o.Rate, "open loop: operations due per second, latency counted from when they were due; 0 closed loop")
}

// DataFlags makes the flags that say what is loaded, a part of Flags.
func (o *Options) DataFlags(f *flag.FlagSet) {
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are loaded and chosen from")
	f.IntVar(&o.ValueSize, "value-size", o.ValueSize, "length of a value in bytes")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "seed of all choices")
}

// Args are command-line arguments that Flags reads as these options.
func (o *Options) Args() []string {
	return append([]string{
		"--workload=" + o.Workload, "--clients=" + strconv.Itoa(o.Clients), "--duration=" + o.Duration.String(),
		"--warmup=" + o.Warmup.String(), "--choice=" + o.Choice, "--rate=" + strconv.FormatFloat(o.Rate, 'g', -1, 64),
	}, o.DataArgs()...)
}

// DataArgs are command-line arguments that DataFlags reads as these options.
func (o *Options) DataArgs() []string {
	return []string{
		"--keys=" + strconv.Itoa(o.Keys), "--value-size=" + strconv.Itoa(o.ValueSize), "--seed=" + strconv.FormatUint(o.Seed, 10),
	}
}

// Validate says what is wrong with the options, by the names of the flags.
func (o *Options) Validate() error {
	if _, err := workloadNamed(o.Workload); err != nil {
		return err
	}
	switch {
	case o.Clients < 1 || o.Clients > MaxClients:
		return fmt.Errorf("--clients %d is not between 1 and %d", o.Clients, MaxClients)
	case o.Duration <= 0 || o.Duration > MaxDuration:
		return fmt.Errorf("--duration %s is not between 0 and %s", o.Duration, MaxDuration)
	case o.Warmup < 0 || o.Warmup > MaxDuration:
		return fmt.Errorf("--warmup %s is not between 0 and %s", o.Warmup, MaxDuration)
	case o.Choice != "" && o.Choice != Uniform && o.Choice != Zipfian && o.Choice != Latest:
		return fmt.Errorf("--choice %q is none of %s, %s and %s", o.Choice, Uniform, Zipfian, Latest)
	case !(o.Rate >= 0 && o.Rate <= MaxRate): // also if it is no number
		return fmt.Errorf("--rate %v is not between 0 and %d", o.Rate, MaxRate)
	}
	return o.ValidateData()
}

// ValidateData says what is wrong with the options of DataFlags.
func (o *Options) ValidateData() error {
	switch {
	case o.Keys < 1 || o.Keys > MaxKeys:
		return fmt.Errorf("--keys %d is not between 1 and %d", o.Keys, MaxKeys)
	case o.ValueSize < 0 || o.ValueSize > MaxValueSize:
		return fmt.Errorf("--value-size %d is not between 0 and %d", o.ValueSize, MaxValueSize)
	}
	return nil
}
