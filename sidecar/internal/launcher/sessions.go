package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	sessionsPath = "/v1/sessions"
	// maxAnswer is the longest answer of the local API, in bytes.
	maxAnswer = 8 << 20
)

// A Session is a session of the sidecar's agent, as the local API describes it.
type Session struct {
	Name       string    `json:"name"`
	ID         string    `json:"id"`
	Origin     string    `json:"origin,omitempty"`
	Purpose    string    `json:"purpose,omitempty"`
	User       string    `json:"user,omitempty"`
	ExpireTime time.Time `json:"expireTime"`
	ClaimedBy  string    `json:"claimedBy,omitempty"`
	MaxCalls   int64     `json:"maxCalls,omitempty"`
}

// A Wish is what a session that is to be opened should be. What is zero is for
// the sidecar to choose.
type Wish struct {
	Purpose  string
	TTL      time.Duration
	MaxCalls int64
}

// Open opens a session.
func (d *Door) Open(ctx context.Context, w Wish) (Session, error) {
	wanted := struct {
		Purpose  string `json:"purpose,omitempty"`
		TTL      string `json:"ttl,omitempty"`
		MaxCalls int64  `json:"maxCalls,omitempty"`
	}{Purpose: w.Purpose, MaxCalls: w.MaxCalls}
	if w.TTL != 0 {
		wanted.TTL = w.TTL.String()
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return Session{}, err
	}
	var s Session
	return s, d.ask(ctx, http.MethodPost, sessionsPath, body, &s)
}

// Sessions returns the sessions of the agent that go on.
func (d *Door) Sessions(ctx context.Context) ([]Session, error) {
	var list struct {
		Sessions []Session `json:"sessions"`
	}
	return list.Sessions, d.ask(ctx, http.MethodGet, sessionsPath, nil, &list)
}

// End ends a session.
func (d *Door) End(ctx context.Context, id string) error {
	return d.ask(ctx, http.MethodDelete, sessionsPath+"/"+url.PathEscape(id), nil, nil)
}

// ask asks the local API and reads its answer into v, unless that is nil. v is
// not complete when ask returns an error.
func (d *Door) ask(ctx context.Context, method, path string, body []byte, v any) error {
	resp, err := d.do(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the sidecar's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var refused struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if json.Unmarshal(text, &refused) != nil || refused.Error.Message == "" {
			return fmt.Errorf("the sidecar answered %s", resp.Status)
		}
		return errors.New(refused.Error.Message)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("read the sidecar's answer: %w", err)
	}
	return nil
}
