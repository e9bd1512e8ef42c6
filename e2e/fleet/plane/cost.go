package plane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// A Cost is what a process has used up or holds.
type Cost struct {
	// CPU is user and system time since its start.
	CPU time.Duration
	// RSS, Heap and Stacks are in bytes: what is resident, and in use by live
	// objects and goroutines.
	RSS, Heap, Stacks float64
	// Goroutines is how many there are.
	Goroutines float64
}

// CostOf returns what a control plane costs now, by its own metrics and the
// kernel's account. If settle is set, it collects its garbage first, for which it
// must serve pprof.
func CostOf(ctx context.Context, r *stack.Replica, settle bool) (Cost, error) {
	if settle {
		if _, err := get(ctx, r.OpsURL+"/debug/pprof/heap?gc=1"); err != nil {
			return Cost{}, err
		}
	}
	body, err := get(ctx, r.OpsURL+"/metrics")
	if err != nil {
		return Cost{}, err
	}
	var c Cost
	fields := map[string]*float64{
		"process_resident_memory_bytes": &c.RSS, "go_memstats_heap_alloc_bytes": &c.Heap,
		"go_memstats_stack_inuse_bytes": &c.Stacks, "go_goroutines": &c.Goroutines,
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if field := fields[name]; ok && field != nil {
			if *field, err = strconv.ParseFloat(value, 64); err != nil {
				return Cost{}, fmt.Errorf("read metrics: %w", err)
			}
			delete(fields, name)
		}
	}
	if len(fields) > 0 {
		return Cost{}, fmt.Errorf("read metrics: %d of those needed are not there", len(fields))
	}
	c.CPU, err = CPU(r.PID())
	return c, err
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", url, resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// CPU returns the user and system time of a process, in ticks of 10 ms.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read process's times: too few fields")
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read process's times: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
