package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/locuskv/locus/bench/power/disk"
)

func main() {
	inDirectories := flag.Bool("names-by-directory", false, "the sync of a file does not make its name durable")
	capacity := flag.Int64("capacity", disk.DefaultCapacity, "how many bytes fit on the disk")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: power [-names-by-directory] [-capacity BYTES] MOUNTPOINT")
		os.Exit(2)
	}
	names := disk.ByFilesToo
	if *inDirectories {
		names = disk.InDirectoriesOnly
	}
	signal.Ignore(os.Interrupt) // who interrupts the test would leave the mount behind; the end of the input unmounts
	d := disk.New(names)
	d.SetCapacity(*capacity)
	if err := serve(d, flag.Arg(0)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// serve answers commands until its input ends.
func serve(d *disk.Disk, at string) error {
	m, err := mount(d, at)
	if err != nil {
		return err
	}
	fmt.Println("ok")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if done, err := live(d, lines.Text()); err != nil {
			fmt.Println("error:", err)
			continue
		} else if done {
			fmt.Println("ok")
			continue
		}
		rng, err := parse(lines.Text())
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		if err := m.unmount(); err != nil {
			return errors.Join(err, detach(at))
		}
		lost := d.Cut(rng)
		if m, err = mount(d, at); err != nil {
			return err
		}
		fmt.Println("ok:", lost)
	}
	if m.unmount() != nil { // a test that failed may have files open still
		return detach(at)
	}
	return nil
}

// live does a command that needs no unmounting; done is false for others.
func live(d *disk.Disk, line string) (done bool, err error) {
	command, argument, _ := strings.Cut(line, " ")
	switch command {
	case "freeze":
		d.Freeze()
	case "capacity":
		bytes, err := strconv.ParseInt(argument, 10, 64)
		if err != nil {
			return false, fmt.Errorf("power: capacity: %w", err)
		}
		d.SetCapacity(bytes)
	case "fail-syncs", "heal-syncs":
		d.FailSyncs(command == "fail-syncs")
	default:
		return false, nil
	}
	return true, nil
}

// parse reads a cut; its seed, if there is one, is the source of chance.
func parse(line string) (*rand.Rand, error) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || len(words) > 2 || words[0] != "cut":
		return nil, fmt.Errorf("power: unknown command %q", line)
	case len(words) == 1:
		return nil, nil
	}
	seed, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("power: seed: %w", err)
	}
	return rand.New(rand.NewPCG(seed, 0)), nil
}
