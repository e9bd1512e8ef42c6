// Package own asks servers what the sidecar itself wants to know of them: what
// tools they list.
package own

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/wire"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	// maxPages is how many pages one list may have, and maxBytes how long they may
	// be together.
	maxPages = 64
	maxBytes = 8 << 20
)

// A Place is where a server is asked.
type Place struct {
	// Server is the id of the server, and Session its own session, if it keeps one.
	Server, Session string
	// Version is the revision of the protocol that is spoken; empty is not known.
	Version string
}

// Admitter admits what the protocol itself needs.
type Admitter interface {
	Admit(server, session string) *pep.Permit
}

// An Asker asks servers. It is safe for concurrent use.
type Asker struct {
	wire  *wire.Wire
	admit Admitter
	last  atomic.Uint64
}

// New returns an Asker.
func New(w *wire.Wire, admit Admitter) *Asker { return &Asker{wire: w, admit: admit} }

// Tools calls each with every item of the server's tools/list, as it came, valid
// until each returns. It is up to ctx how long that may take. Every request is
// checked against what is held as an agent's is.
func (a *Asker) Tools(ctx context.Context, at Place, each func(item []byte)) error {
	var cursor string
	budget := int64(maxBytes)
	for range maxPages {
		next, err := a.page(ctx, at, cursor, &budget, each)
		if err != nil {
			return fmt.Errorf("list tools of %s: %w", at.Server, err)
		}
		if next == "" {
			return nil
		}
		if next == cursor {
			return fmt.Errorf("list tools of %s: a page leads to itself", at.Server)
		}
		cursor = next
	}
	return fmt.Errorf("list tools of %s: it has more than %d pages", at.Server, maxPages)
}

func (a *Asker) page(ctx context.Context, at Place, cursor string, budget *int64, each func([]byte)) (next string, err error) {
	p := a.admit.Admit(at.Server, "")
	id := "reeve-" + strconv.FormatUint(a.last.Add(1), 10)
	ok := p.Forward(ctx, func(ctx context.Context, server *grant.Server) (begun bool) {
		var resp *http.Response
		resp, begun, err = a.send(ctx, at, server, p, request(at, id, cursor))
		if err != nil {
			return begun
		}
		defer resp.Body.Close()
		next, err = read(resp, id, budget, each)
		return begun
	})
	if !ok {
		return "", fmt.Errorf("denied: %s", p.Decision.Reason)
	}
	p.End(ctx, 0) // it has no record
	return next, err
}

// request returns the text of a request for one page.
func request(at Place, id, cursor string) []byte {
	var params []strictjson.Member
	if cursor != "" {
		params = append(params, strictjson.Member{Key: "cursor", Value: cursor})
	}
	if at.Version >= message.Stateless {
		params = append(params, strictjson.Member{Key: "_meta", Value: strictjson.NewObject(
			strictjson.Member{Key: message.MetaVersion, Value: at.Version},
			strictjson.Member{Key: "io.modelcontextprotocol/clientInfo", Value: strictjson.NewObject(
				strictjson.Member{Key: "name", Value: "reeve-sidecar"}, strictjson.Member{Key: "version", Value: "1"})},
			strictjson.Member{Key: "io.modelcontextprotocol/clientCapabilities", Value: strictjson.NewObject()},
		)})
	}
	return strictjson.Append(nil, strictjson.NewObject(
		strictjson.Member{Key: "jsonrpc", Value: "2.0"},
		strictjson.Member{Key: "id", Value: id},
		strictjson.Member{Key: "method", Value: "tools/list"},
		strictjson.Member{Key: "params", Value: strictjson.NewObject(params...)},
	))
}

func (a *Asker) send(ctx context.Context, at Place, server *grant.Server, p *pep.Permit, text []byte) (*http.Response, bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL(), bytes.NewReader(text))
	if err != nil {
		return nil, false, err
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	h.Set("User-Agent", "reeve-sidecar")
	if at.Version != "" {
		h.Set(message.HeaderVersion, at.Version)
	}
	if at.Version >= message.Stateless {
		h.Set(message.HeaderMethod, "tools/list")
	}
	if at.Session != "" {
		h.Set(message.HeaderSession, at.Session)
	}
	return a.wire.RoundTrip(req, server, []wire.Permit{p})
}

// read reads the answer to the request id and returns the cursor of the next page;
// empty if this is the last. What else the server says is not listened to.
func read(resp *http.Response, id string, budget *int64, each func([]byte)) (next string, err error) {
	body := &io.LimitedReader{R: resp.Body, N: *budget}
	defer func() { *budget = body.N }()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var scanner message.Scanner
	switch {
	case resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "":
		return "", fmt.Errorf("the server answers with status %d", resp.StatusCode)
	case kind == "application/json":
		text, err := io.ReadAll(body)
		if err != nil {
			return "", err
		}
		if body.N == 0 {
			return "", errTooLong
		}
		next, _, err := take(&scanner, text, id, each)
		return next, err
	case kind == "text/event-stream":
		var events sse.Reader
		events.Reset(body, maxBytes)
		for {
			event, err := events.Next()
			if err != nil {
				if body.N == 0 {
					err = errTooLong
				}
				return "", err
			}
			if len(event.Data) == 0 || event.Name != "" && event.Name != "message" {
				continue
			}
			if next, ours, err := take(&scanner, event.Data, id, each); ours || err != nil {
				return next, err
			}
		}
	default:
		return "", fmt.Errorf("the answer is %q", kind)
	}
}

var errTooLong = errors.New("the list is too long")

// take reads a message; ours is whether it is the answer to the request id.
func take(s *message.Scanner, text []byte, id string, each func([]byte)) (next string, ours bool, err error) {
	a, err := s.Scan(text)
	if err != nil {
		return "", false, err
	}
	if a.Kind != message.Response || a.ID.JSON() != strconv.Quote(id) {
		return "", false, nil
	}
	if a.Failed {
		return "", true, errors.New("the server answers with an error")
	}
	if err := a.Items("tools", each); err != nil {
		return "", true, err
	}
	next, _ = a.ResultString("nextCursor")
	return next, true, nil
}
