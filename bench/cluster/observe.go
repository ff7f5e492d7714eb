package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Ready asks the node whether it takes part in its cluster; the error says what it lacks.
func (n *Node) Ready(ctx context.Context) error {
	_, err := n.get(ctx, "/readyz")
	return err
}

// Metrics are the node's metrics without labels, by name.
func (n *Node) Metrics(ctx context.Context) (map[string]float64, error) {
	text, err := n.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") || strings.Contains(name, "{") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out, nil
}

// get reads a page of the node's HTTP server.
func (n *Node) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cluster: %s says %s: %s", n.name, resp.Status, bytes.TrimSpace(text))
	}
	return text, nil
}

// Memory is the anonymous resident memory of the process in bytes: what it holds for itself, without the
// pages of files that the kernel can drop. False if it does not run, or where the system does not tell.
func (n *Node) Memory() (int64, bool) {
	p := n.process()
	if !p.running() {
		return 0, false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err == nil
		}
	}
	return 0, false
}

// Message is a kind of line in a node's log: its level and text with each number as N, or the line itself if
// it is not of the log's form.
type Message struct{ Level, Text string }

var (
	logLine = regexp.MustCompile(`^time=\S+ level=(\w+) msg=(.*)$`)
	numbers = regexp.MustCompile(`[0-9]+`)
)

// maxMessage is how much of a line says what kind it is.
const maxMessage = 200

// Messages counts the kinds of lines in the node's log.
func (n *Node) Messages() (map[Message]int, error) {
	f, err := os.Open(n.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := make(map[Message]int)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "--- ") {
			continue
		}
		m := Message{Text: line}
		if part := logLine.FindStringSubmatch(line); part != nil {
			m = Message{Level: part[1], Text: numbers.ReplaceAllString(part[2][:min(len(part[2]), maxMessage)], "N")}
		}
		out[m]++
	}
	return out, lines.Err()
}

// LastLines are the last lines of the log.
func (n *Node) LastLines(count int) string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return "there is no log"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
