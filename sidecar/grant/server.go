package grant

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Server is an MCP server of the catalogue.
type Server struct {
	name     string
	id       string
	revision int64
	message  *grantv1.Server
}

// ParseServer parses a server as it is stored or as it is streamed. The message
// must not change afterwards.
func ParseServer(m *grantv1.Server, revision int64) (*Server, error) {
	if err := checkName(m.GetName(), Servers); err != nil {
		return nil, err
	}
	if stdio := m.GetStdio(); stdio != nil {
		if err := checkStdio(stdio); err != nil {
			return nil, err
		}
	} else if problem := checkURL(m.GetHttp().GetUrl()); problem != "" {
		return nil, fmt.Errorf("http.url: %w: %s", ErrInvalid, problem)
	}
	n, err := ParseName(m.GetName())
	if err != nil {
		return nil, err
	}
	return &Server{name: m.GetName(), id: n.ID, revision: revision, message: m}, nil
}

// checkURL returns what is wrong with the URL of an MCP endpoint.
func checkURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return "say how the server is reached, as in https://tickets.example.com/mcp"
	case len(s) > 2048:
		return "at most 2048 bytes are allowed"
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "want an absolute URL such as https://tickets.example.com/mcp"
	case u.Scheme != "http" && u.Scheme != "https":
		return "want http or https"
	case u.User != nil:
		return "it must not carry credentials"
	case strings.ContainsAny(s, "?#"):
		return "it must not have a query or a fragment"
	}
	return ""
}

// Name returns the resource name.
func (s *Server) Name() string { return s.name }

// Revision returns the revision that wrote the server.
func (s *Server) Revision() int64 { return s.revision }

// Message returns what was parsed. It must not be changed.
func (s *Server) Message() *grantv1.Server { return s.message }

// ID returns the last part of the resource name.
func (s *Server) ID() string { return s.id }

// URL returns the absolute http or https URL of the MCP endpoint; empty if the
// server is started in place of being reached.
func (s *Server) URL() string { return s.message.GetHttp().GetUrl() }

// Stdio returns how the server is started; nil if it is reached by its URL. It
// must not be changed.
func (s *Server) Stdio() *grantv1.Server_Stdio { return s.message.GetStdio() }

// LogValue returns the server as it is logged.
func (s *Server) LogValue() slog.Value { return logValue(s) }

func (s *Server) key() string { return s.name }

// ProjectServer returns the part of a stored server that is streamed. It shares
// what it keeps with s.
func ProjectServer(s *grantv1.Server) *grantv1.Server {
	return &grantv1.Server{Name: s.GetName(), Upstream: s.GetUpstream()}
}

const (
	maxCommand  = 64
	maxVariable = 64
	maxArgument = 4096
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// checkStdio reports what is wrong with how a server is started.
func checkStdio(m *grantv1.Server_Stdio) error {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("stdio: %w: it has a field that this version does not know", ErrInvalid)
	}
	if n := len(m.GetCommand()); n == 0 || n > maxCommand || m.GetCommand()[0] == "" {
		return fmt.Errorf("stdio.command: %w: want a program and its arguments, at most %d in all", ErrInvalid, maxCommand)
	}
	for i, word := range m.GetCommand() {
		if problem := argumentProblem(word); problem != "" {
			return fmt.Errorf("stdio.command[%d]: %w: %s", i, ErrInvalid, problem)
		}
	}
	if len(m.GetEnv()) > maxVariable {
		return fmt.Errorf("stdio.env: %w: %d variables; at most %d are allowed", ErrInvalid, len(m.GetEnv()), maxVariable)
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetEnv())) {
		problem := argumentProblem(m.GetEnv()[name])
		switch {
		case !variableName.MatchString(name):
			problem = "a variable's name has up to 128 of A-Z a-z 0-9 _ and does not begin with a digit"
		case strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_"):
			problem = "it would have the loader put other code into the program; name the program that is to run"
		}
		if problem != "" {
			return fmt.Errorf("stdio.env[%q]: %w: %s", name, ErrInvalid, problem)
		}
	}
	if dir := m.GetWorkingDir(); dir != "" {
		problem := argumentProblem(dir)
		if !path.IsAbs(dir) {
			problem = "want an absolute path, or nothing for a new empty directory"
		}
		if problem != "" {
			return fmt.Errorf("stdio.working_dir: %w: %s", ErrInvalid, problem)
		}
	}
	return nil
}

// argumentProblem returns what keeps s from being passed to a program.
func argumentProblem(s string) string {
	switch {
	case len(s) > maxArgument:
		return fmt.Sprintf("at most %d bytes are allowed", maxArgument)
	case strings.IndexByte(s, 0) >= 0:
		return "it must not contain a NUL"
	}
	return ""
}
