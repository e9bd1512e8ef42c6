package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	initialize  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"calls","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	call        = `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"invoice","arguments":{"customer":"C-1042 Ferris & Sons","amount":42.5,"currency":"EUR"}}}`
)

// target is one way to the measured tool, compared with that called anchor.
type target struct {
	name, anchor string
	// call makes one call and returns its answer.
	call func(ctx context.Context, id int) ([]byte, error)
}

// endpoint is a target over streamable HTTP.
type endpoint struct {
	url, secret, session string
	client               *http.Client
}

func newTarget(ctx context.Context, name, url, secret string) (*target, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	t := &endpoint{url: url, secret: secret, client: &http.Client{Transport: transport}}
	for _, message := range []string{initialize, initialized} {
		resp, _, err := t.post(ctx, []byte(message))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
			t.session = id
		}
	}
	return &target{name, "proxy", func(ctx context.Context, id int) ([]byte, error) {
		_, answer, err := t.post(ctx, fmt.Appendf(nil, call, id))
		return answer, err
	}}, nil
}

func (t *endpoint) post(ctx context.Context, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if t.secret != "" {
		req.Header.Set("Authorization", "Bearer "+t.secret)
	}
	if t.session != "" {
		req.Header.Set("Mcp-Session-Id", t.session)
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return resp, answer, err
}

// load makes calls from n callers at once and returns how long each took, and
// all of them.
func (t *target) load(ctx context.Context, n, calls int) ([]time.Duration, time.Duration, error) {
	latencies := make([][]time.Duration, n)
	errs := make([]error, n)
	start := time.Now()
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() {
			for j := range calls {
				began := time.Now()
				answer, err := t.call(ctx, 10+i*calls+j)
				if err == nil && !bytes.Contains(answer, []byte("invoiced C-1042")) {
					err = fmt.Errorf("unexpected answer %s", answer)
				}
				if err != nil {
					errs[i] = err
					return
				}
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	callers.Wait()
	took := time.Since(start)
	all := latencies[0]
	for _, l := range latencies[1:] {
		all = append(all, l...)
	}
	return all, took, errors.Join(errs...)
}

// memory returns the resident and the anonymous memory of a process, in MB.
func memory(pid int) (rss, anonymous float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for l := range strings.Lines(string(data)) {
		fields := strings.Fields(l)
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(fields[1], 64) // lines without a number are none of those below
		switch fields[0] {
		case "Rss:":
			rss = kb * 1024 / 1e6
		case "Anonymous:":
			anonymous = kb * 1024 / 1e6
		}
	}
	return rss, anonymous, nil
}
