package demo

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sampleEvery is how often memory is looked at: reading /proc costs microseconds.
const sampleEvery = 200 * time.Millisecond

// memory samples how much the nodes hold, for the highest sum of all of them at one time.
type memory struct {
	pids func() []int
	quit chan struct{}
	done chan struct{}
	once sync.Once

	mu struct {
		sync.Mutex
		peak int64
	}
}

func watchMemory(pids func() []int) *memory {
	m := &memory{pids: pids, quit: make(chan struct{}), done: make(chan struct{})}
	go m.run()
	return m
}

func (m *memory) run() {
	defer close(m.done)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		m.sample()
		select {
		case <-m.quit:
			return
		case <-tick.C:
		}
	}
}

func (m *memory) sample() {
	var sum int64
	for _, pid := range m.pids() {
		if n, ok := residentOf(pid); ok {
			sum += n
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.peak = max(m.mu.peak, sum)
}

// stop ends the sampling; it may be called more than once.
func (m *memory) stop() {
	m.once.Do(func() { close(m.quit) })
	<-m.done
}

// peak is the highest sum seen, in bytes; 0 where the system does not tell.
func (m *memory) peak() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.peak
}

// residentOf is the anonymous resident memory of a process in bytes: what it holds for itself, without the
// pages of files that the kernel can drop at any time. Linux only.
func residentOf(pid int) (int64, bool) {
	if pid <= 0 {
		return 0, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	return parseResident(b)
}

// parseResident reads the line "RssAnon:    1234 kB" of /proc/PID/status.
func parseResident(status []byte) (int64, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "RssAnon:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0, false
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}
