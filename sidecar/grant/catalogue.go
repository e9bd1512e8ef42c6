package grant

import (
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// An Agent is the principal that a snapshot belongs to.
type Agent struct {
	name     string
	revision int64
	active   bool
}

// ParseAgent parses an agent as it is stored or as it is streamed.
func ParseAgent(m *grantv1.Agent, revision int64) (*Agent, error) { return nil, ErrInvalid }

// Name returns the resource name.
func (a *Agent) Name() string { return a.name }

// Revision returns the revision that wrote the agent.
func (a *Agent) Revision() int64 { return a.revision }

// Active reports whether the agent may act on its grants.
func (a *Agent) Active() bool { return a.active }

func (a *Agent) entry() {}

// ProjectAgent returns the part of a stored agent that is streamed.
func ProjectAgent(m *grantv1.Agent) *grantv1.Agent { return m }

// A Server is an MCP server of the catalogue.
type Server struct {
	name     string
	id       string
	url      string
	revision int64
}

// ParseServer parses a server as it is stored or as it is streamed.
func ParseServer(m *grantv1.Server, revision int64) (*Server, error) { return nil, ErrInvalid }

// Name returns the resource name.
func (s *Server) Name() string { return s.name }

// Revision returns the revision that wrote the server.
func (s *Server) Revision() int64 { return s.revision }

// ID returns the last part of the resource name.
func (s *Server) ID() string { return s.id }

// URL returns the absolute http or https URL of the MCP endpoint.
func (s *Server) URL() string { return s.url }

func (s *Server) entry() {}

// ProjectServer returns the part of a stored server that is streamed.
func ProjectServer(m *grantv1.Server) *grantv1.Server { return m }

// A Tool is one tool of a catalogue server with our classification of it.
type Tool struct {
	name         string
	server, tool string
	revision     int64
}

// ParseTool parses a tool as it is stored or as it is streamed.
func ParseTool(m *grantv1.Tool, revision int64) (*Tool, error) { return nil, ErrInvalid }

// Name returns the resource name.
func (t *Tool) Name() string { return t.name }

// Revision returns the revision that wrote the tool.
func (t *Tool) Revision() int64 { return t.revision }

// Server returns the id of the tool's server.
func (t *Tool) Server() string { return t.server }

// ID returns the server's own name for the tool.
func (t *Tool) ID() string { return t.tool }

func (t *Tool) entry() {}

// ProjectTool returns the part of a stored tool that is streamed.
func ProjectTool(m *grantv1.Tool) *grantv1.Tool { return m }
