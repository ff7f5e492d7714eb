package raftstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

func (c *testCluster) measure(id ids.RangeID) Measure {
	c.t.Helper()
	n := c.leaseholder(id)
	var m Measure
	done := false
	n.MeasureRange(id, c.info(id, n.id).Descriptor.Epoch.Bounds, func(got Measure, err error) {
		c.must(err)
		m, done = got, true
	})
	c.settle()
	if !done {
		c.t.Fatal("not measured")
	}
	return m
}

// What is counted drifts: keys that are written again count twice, and a split's left part keeps what it gave away. A
// measure finds the truth and its middle, and counting goes on from there.
func TestMeasureFindsTheTruth(t *testing.T) {
	c := newTestCluster(t, 1)
	if m := c.measure(testRange); m.Records != 0 || m.Middle != nil {
		t.Fatalf("an empty range: %+v", m)
	}
	value := strings.Repeat("v", 1000)
	const n = 3 * measureStep / 2 // more than one step
	bytes := uint64(0)
	for i := range n {
		k := fmt.Sprintf("k%05d", i)
		c.ok(testRange, put(k, value))
		bytes += uint64(len(key(k)) + len(value))
	}
	for i := range 500 {
		c.ok(testRange, put(fmt.Sprintf("k%05d", i), value)) // again
	}
	if i := c.info(testRange, 1); i.Records != n+500 {
		t.Fatalf("%d records were counted", i.Records)
	}
	m := c.measure(testRange)
	if m.Records != n || m.Bytes != bytes {
		t.Fatalf("measured %d records and %d bytes, there are %d and %d", m.Records, m.Bytes, n, bytes)
	}
	middle := string(m.Middle[len(key("")):])
	if lo, hi := fmt.Sprintf("k%05d", n/2-n/20), fmt.Sprintf("k%05d", n/2+n/20); middle < lo || middle > hi {
		t.Fatalf("the middle is %s, not between %s and %s", middle, lo, hi)
	}
	if i := c.info(testRange, 1); i.Records != n || i.Bytes != bytes {
		t.Fatalf("after the measure %d records and %d bytes are known", i.Records, i.Bytes)
	}
	c.ok(testRange, put("new", "1"))
	if i := c.info(testRange, 1); i.Records != n+1 {
		t.Fatalf("one more makes %d", i.Records)
	}
	c.split(testRange, middle, 100)
	left, right := c.measure(testRange), c.measure(100)
	if left.Records+right.Records != n+1 || left.Records < n*2/5 || right.Records < n*2/5 {
		t.Fatalf("%d and %d records after a split in the middle", left.Records, right.Records)
	}
}

func TestMeasureRefusesOtherBounds(t *testing.T) {
	c := newTestCluster(t, 1)
	var got error
	c.node(1).MeasureRange(testRange, 99, func(_ Measure, err error) { got = err })
	want[*api.EpochMismatchError](t, "other bounds", got)
	c.node(1).MeasureRange(999, 1, func(_ Measure, err error) { got = err })
	want[*api.RangeNotFoundError](t, "no such range", got)
}

// One record alone has no middle: there is nothing to split.
func TestMeasureOfOneRecord(t *testing.T) {
	c := newTestCluster(t, 1)
	c.ok(testRange, put("a", strings.Repeat("v", 100_000)))
	if m := c.measure(testRange); m.Records != 1 || m.Middle != nil {
		t.Fatalf("%+v", m)
	}
	c.ok(testRange, put("b", "v"))
	if m := c.measure(testRange); string(m.Middle) != string(key("b")) {
		t.Fatalf("the middle of two is %q", m.Middle)
	}
	c.ok(testRange, write(&locuspb.Mutation{Key: key("b"), Delete: true}))
	if m := c.measure(testRange); m.Records != 1 || m.Middle != nil {
		t.Fatalf("%+v", m)
	}
}
