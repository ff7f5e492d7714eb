package functions

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/locuskv/locus/bench/load/children"
)

// redis is one server without persistence, with the tools that come with it.
type redis struct {
	group *children.Group
	port  string
	tools map[string]string // paths, by name
}

// redisWithin bounds its start.
const redisWithin = 20 * time.Second

// startRedis starts a server where it is installed, and says in the report if it is not.
func (b *bench) startRedis(ctx context.Context) error {
	r := &redis{group: b.group, tools: make(map[string]string)}
	for _, tool := range []string{"redis-server", "redis-cli", "redis-benchmark"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			b.report.Redis = tool + " is not in PATH"
			return nil
		}
		r.tools[tool] = path
	}
	addrs, err := children.FreeAddresses(1)
	if err != nil {
		return err
	}
	if _, r.port, err = net.SplitHostPort(addrs[0]); err != nil {
		return err
	}
	p, err := b.group.Launch(children.Spec{Name: "redis", Path: r.tools["redis-server"], Args: []string{
		"--port", r.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.group.Dir(),
	}})
	if err != nil {
		return err
	}
	if err := r.await(ctx, p); err != nil {
		return err
	}
	info, err := r.command(ctx, "INFO", "server")
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			b.report.Redis = strings.TrimSpace(v)
		}
	}
	if !hasFunctions(b.report.Redis) {
		b.report.Redis = "its version " + b.report.Redis + " has no functions"
		p.Kill()
		return nil
	}
	b.redis = r
	return nil
}

// hasFunctions says whether a version has them: they came with 7.0.
func hasFunctions(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 7
}

func (r *redis) await(ctx context.Context, p *children.Process) error {
	ctx, cancel := context.WithTimeout(ctx, redisWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if out, err := r.command(ctx, "PING"); err == nil && out == "PONG" {
			return nil
		}
		if !p.Running() {
			return fmt.Errorf("redis has ended: %s", p.LastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis does not answer: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// command runs one command and returns the answer.
func (r *redis) command(ctx context.Context, args ...string) (string, error) {
	out, err := r.group.Run(ctx, children.Spec{
		Name: "redis-cli", Path: r.tools["redis-cli"], Args: append([]string{"-p", r.port, "-e"}, args...),
	}, io.Discard)
	return strings.TrimSpace(string(out)), err
}

// measured is what redis-benchmark says of a command.
type measured struct{ rate, meanMillis float64 }

func (r *redis) measure(ctx context.Context, clients, requests, keys int, args ...string) (measured, error) {
	all := append([]string{
		"-p", r.port, "-c", strconv.Itoa(clients), "-n", strconv.Itoa(requests), "-r", strconv.Itoa(keys), "--csv",
	}, args...)
	out, err := r.group.Run(ctx, children.Spec{Name: "redis-benchmark", Path: r.tools["redis-benchmark"], Args: all}, io.Discard)
	if err != nil {
		return measured{}, err
	}
	return readMeasured(string(out))
}

// readMeasured reads the answer: a line of names and one of numbers. The first column is the command itself, with quotes as they are.
func readMeasured(text string) (m measured, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) < 2 {
		return m, fmt.Errorf("redis-benchmark said %q", text)
	}
	names, err := csv.NewReader(strings.NewReader(lines[0])).Read()
	if err != nil {
		return m, fmt.Errorf("redis-benchmark said %q: %w", lines[0], err)
	}
	values := strings.Split(lines[len(lines)-1], `","`)
	if len(names) < 3 || names[1] != "rps" || names[2] != "avg_latency_ms" || len(values) < len(names) {
		return m, fmt.Errorf("redis-benchmark said %q", text)
	}
	values = values[len(values)-len(names):]
	var err1, err2 error
	m.rate, err1 = strconv.ParseFloat(values[1], 64)
	m.meanMillis, err2 = strconv.ParseFloat(values[2], 64)
	return m, errors.Join(err1, err2)
}

// enough is how many requests take about as long as d.
func (r *redis) enough(ctx context.Context, d time.Duration, clients, keys int, args ...string) (int, error) {
	const trial = 200
	m, err := r.measure(ctx, clients, trial, keys, args...)
	return max(trial, int(m.rate*d.Seconds())), err
}

// rates is a contender whose turns are runs of redis-benchmark.
func (r *redis) rates(ctx context.Context, state, name, unit string, clients, keys int, d time.Duration, args ...string) (*contender, error) {
	n, err := r.enough(ctx, d, clients, keys, args...)
	return &contender{state: state, name: name, unit: unit, turn: func(ctx context.Context) (float64, error) {
		m, err := r.measure(ctx, clients, n, keys, args...)
		return m.rate, err
	}}, err
}

// readCalls is FCALL_RO of a function that reads one key, as large as ours.
func (r *redis) readCalls(ctx context.Context, clients, keys int, d time.Duration) (*contender, error) {
	const (
		fill     = `for i = 0, ARGV[1] - 1 do redis.call('SET', string.format('key:%012d', i), string.rep('x', 128)) end return ARGV[1]`
		function = "#!lua name=bench\nredis.register_function{function_name='bench_load', flags={'no-writes'}, " +
			"callback=function(keys, args) return redis.call('GET', keys[1]) end}"
	)
	for _, args := range [][]string{{"EVAL", fill, "0", strconv.Itoa(keys)}, {"FUNCTION", "LOAD", "REPLACE", function}} {
		if _, err := r.command(ctx, args...); err != nil {
			return nil, err
		}
	}
	got, err := r.command(ctx, "FCALL_RO", "bench_load", "1", "key:000000000007")
	if err != nil || got != strings.Repeat("x", 128) {
		return nil, errors.Join(fmt.Errorf("redis answered %q", got), err)
	}
	return r.rates(ctx, "", "Redis, FCALL_RO that reads the key", "calls/s", clients, keys, d, "FCALL_RO", "bench_load", "1", "key:__rand_int__")
}

// fillSums stores the records of the sums: under the keys sum:NNNNNNNN, and as the list sums.
const fillSums = `
for i = 0, ARGV[1] - 1 do
  local v = string.rep('\0', 40) .. struct.pack('<i8', i % 1009 - 100) .. string.rep('\0', 52)
  redis.call('SET', string.format('sum:%08d', i), v)
  redis.call('RPUSH', 'sums', v)
end
return redis.call('LLEN', 'sums')`

// sumList sums the field of a list's values up: the quickest way to many values in one call that Redis has.
const sumList = `
local n, sum = 0, 0
for from = 0, redis.call('LLEN', KEYS[1]) - 1, 5000 do
  for _, v in ipairs(redis.call('LRANGE', KEYS[1], from, from + 4999)) do
    sum = sum + struct.unpack('<i8', v, 41)
    n = n + 1
  end
end
return n .. ' ' .. sum`

func (r *redis) fillSums(ctx context.Context, n int) error {
	if _, err := r.command(ctx, "DEL", "sums"); err != nil {
		return err
	}
	_, err := r.command(ctx, "EVAL", fillSums, "0", strconv.Itoa(n))
	return err
}

// sums is a script that sums all records up.
func (r *redis) sums(ctx context.Context, state string, n int) (*contender, error) {
	if err := r.fillSums(ctx, n); err != nil {
		return nil, err
	}
	want := sumOf(0, n)
	got, err := r.command(ctx, "EVAL", sumList, "1", "sums")
	if text := fmt.Sprintf("%d %d", want.Count, want.Sum); err != nil || got != text {
		return nil, errors.Join(fmt.Errorf("redis answered %q instead of %q", got, text), err)
	}
	return &contender{state: state, name: "Redis, a script over a list", unit: "ms", turn: func(ctx context.Context) (float64, error) {
		m, err := r.measure(ctx, 1, 1, 1, "EVAL", sumList, "1", "sums")
		return m.meanMillis, err
	}}, nil
}

// sumKeys sums the field of the values of its keys up.
const sumKeys = `
local sum = 0
for _, v in ipairs(redis.call('MGET', unpack(KEYS))) do sum = sum + struct.unpack('<i8', v, 41) end
return tostring(sum)`

// smallSums are a script that sums few keys up, and MGET of them, whose answer nobody decodes.
func (r *redis) smallSums(ctx context.Context, few int, d time.Duration) ([]*contender, error) {
	if err := r.fillSums(ctx, few); err != nil {
		return nil, err
	}
	var keys []string
	for i := range few {
		keys = append(keys, fmt.Sprintf("sum:%08d", i))
	}
	script := append([]string{"EVAL", sumKeys, strconv.Itoa(few)}, keys...)
	got, err := r.command(ctx, script...)
	if text := fmt.Sprint(sumOf(0, few).Sum); err != nil || got != text {
		return nil, errors.Join(fmt.Errorf("redis answered %q instead of %q", got, text), err)
	}
	var out []*contender
	for _, clients := range smallCallers {
		for _, way := range []struct {
			name string
			args []string
		}{{"Redis, MGET", append([]string{"MGET"}, keys...)}, {"Redis, a script with MGET", script}} {
			name := fmt.Sprintf("sum of %d keys, %d at a time, %s", few, clients, way.name)
			c, err := r.rates(ctx, "near", name, "sums/s", clients, 1, d, way.args...)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}
