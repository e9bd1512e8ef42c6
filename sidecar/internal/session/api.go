package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// The limits of the local API.
const (
	maxBody     = 4 << 10
	bodyTimeout = 5 * time.Second
	maxAtOnce   = 16
)

// maxTTL is how long a session may go on.
const maxTTL = 24 * time.Hour

// Path is where the local API is served, and below.
const Path = "/v1/sessions"

// Described is a session as the local API has it.
type Described struct {
	// Name is the resource name, and ID its last part: what a call names in the
	// header Reeve-Session.
	Name string `json:"name"`
	ID   string `json:"id"`
	// Origin is "admin" or "agent": who opened it.
	Origin  string `json:"origin"`
	Purpose string `json:"purpose,omitempty"`
	User    string `json:"user,omitempty"`
	// ExpireTime is when it is over.
	ExpireTime time.Time `json:"expireTime"`
	// ClaimedBy is "this" sidecar, "another", or "nobody".
	ClaimedBy string `json:"claimedBy"`
	// MaxCalls is how many calls may be made in it; 0 is any number.
	MaxCalls int64 `json:"maxCalls,omitempty"`
}

func describe(s *grant.Session, claimant string) Described {
	d := Described{
		Name: s.Name(), ID: s.ID(), Origin: strings.ToLower(s.Origin().String()), Purpose: s.Purpose(), User: s.User(),
		ExpireTime: s.Message().GetExpireTime().AsTime(), ClaimedBy: "another", MaxCalls: s.Limits().MaxCalls,
	}
	switch s.Claimant() {
	case "":
		d.ClaimedBy = "nobody"
	case claimant:
		d.ClaimedBy = "this"
	}
	return d
}

// Handler serves the local API. Who is let in is for whoever serves it.
//
//	POST   /v1/sessions       {"purpose": "triage", "ttl": "15m", "maxCalls": 20}, all optional
//	GET    /v1/sessions       {"sessions": [...]}
//	DELETE /v1/sessions/{id}
//
// An error is {"error": {"reason": "...", "message": "..."}}.
func (m *Manager) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path, m.post)
	mux.HandleFunc("GET "+Path, m.get)
	mux.HandleFunc("DELETE "+Path+"/{id}", m.delete)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		m.refuse(w, r, http.StatusNotFound, "NOT_FOUND", "There is POST and GET "+Path+", and DELETE "+Path+"/{id}.")
	})
	places := make(chan struct{}, maxAtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			mux.ServeHTTP(w, r)
		default:
			m.refuse(w, r, http.StatusServiceUnavailable, "OVERLOADED", fmt.Sprintf("More than %d requests at once.", maxAtOnce))
		}
	})
}

func (m *Manager) post(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		m.refuse(w, r, http.StatusUnsupportedMediaType, "INVALID_REQUEST", "Content-Type must be application/json.")
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every listener has deadlines
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		m.refuse(w, r, http.StatusBadRequest, "INVALID_REQUEST", fmt.Sprintf("The request broke off, or is longer than %d bytes.", maxBody))
		return
	}
	_ = control.SetReadDeadline(time.Time{}) // what passes it ends the request, read or not
	wanted, problem := parseWanted(body)
	if problem != "" {
		m.refuse(w, r, http.StatusBadRequest, "INVALID_REQUEST", problem)
		return
	}
	s, err := m.Open(r.Context(), wanted)
	if err != nil {
		m.fail(w, r, err)
		return
	}
	m.answer(w, r, http.StatusCreated, describe(s, s.Claimant()))
}

// parseWanted reads what a POST says. problem is a sentence, empty if there is none.
func parseWanted(body []byte) (w Wanted, problem string) {
	v, err := strictjson.Parse(body, strictjson.Limits{Depth: 4, Size: maxBody})
	if err != nil {
		return w, "The request is not JSON that reads in one way only: " + err.Error() + "."
	}
	o, ok := v.(*strictjson.Object)
	if !ok {
		return w, `The request must be an object such as {"purpose": "triage", "ttl": "15m"}.`
	}
	for key, value := range o.All() {
		ok := false
		switch key {
		case "purpose":
			w.Purpose, ok = value.(string)
			problem = "purpose must be a string."
		case "ttl":
			var text string
			if text, ok = value.(string); ok {
				w.TTL, err = time.ParseDuration(text)
				ok = err == nil && w.TTL >= time.Second && w.TTL <= maxTTL
			}
			problem = `ttl must be a duration from 1s to 24h, as in "15m".`
		case "maxCalls":
			var n int64
			n, ok = value.(int64)
			ok = ok && n >= 1 && n <= grant.MaxCalls
			w.MaxCalls = n
			problem = fmt.Sprintf("maxCalls must be a whole number from 1 to %d.", int64(grant.MaxCalls))
		default:
			problem = fmt.Sprintf("There is no %q: a session has purpose, ttl and maxCalls.", key)
		}
		if !ok {
			return Wanted{}, problem
		}
	}
	return w, ""
}

func (m *Manager) get(w http.ResponseWriter, r *http.Request) {
	sessions, claimant := m.List()
	described := make([]Described, 0, len(sessions))
	for _, s := range sessions {
		described = append(described, describe(s, claimant))
	}
	m.answer(w, r, http.StatusOK, struct {
		Sessions []Described `json:"sessions"`
	}{described})
}

func (m *Manager) delete(w http.ResponseWriter, r *http.Request) {
	if err := m.Close(r.Context(), r.PathValue("id")); err != nil {
		m.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail answers with what went wrong.
func (m *Manager) fail(w http.ResponseWriter, r *http.Request, err error) {
	for _, e := range [...]struct {
		err    error
		status int
		reason string
	}{
		{ErrInvalid, http.StatusBadRequest, "INVALID_REQUEST"},
		{ErrNotFound, http.StatusNotFound, "NOT_FOUND"},
		{ErrClaimed, http.StatusConflict, "SESSION_CLAIMED"},
		{ErrTooMany, http.StatusTooManyRequests, "TOO_MANY_SESSIONS"},
	} {
		if errors.Is(err, e.err) {
			m.refuse(w, r, e.status, e.reason, err.Error())
			return
		}
	}
	m.cfg.Log.WarnContext(r.Context(), "session request failed", slog.Any("error", err))
	// The agent is not to learn where the control plane is.
	m.refuse(w, r, http.StatusServiceUnavailable, "UNAVAILABLE",
		"The control plane could not be asked, or what it did has not arrived here. Retry later; the sidecar's log says more.")
}

func (m *Manager) refuse(w http.ResponseWriter, r *http.Request, status int, reason, message string) {
	var body struct {
		Error struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Reason, body.Error.Message = reason, message
	m.answer(w, r, status, body)
}

func (m *Manager) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		m.cfg.Log.ErrorContext(r.Context(), "answer not written", slog.Any("error", err))
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data) // an agent that has gone needs no answer
}
