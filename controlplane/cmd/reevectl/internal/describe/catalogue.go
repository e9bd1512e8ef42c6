package describe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Server describes a server and its tools.
func (r *Reader) Server(ctx context.Context, name string) (*output.Description, error) {
	m, err := resources.Get(ctx, r.Conn, kind.Server, name)
	if err != nil {
		return nil, err
	}
	s, _ := m.(*grantv1.Server)
	tools, err := resources.Tools(ctx, r.Conn, name)
	if err != nil {
		return nil, err
	}
	observed, err := resources.Observed(ctx, r.Conn, name)
	if err != nil && !hidden(err) {
		return nil, err
	}
	d := &output.Description{}
	d.Field("Server", name)
	d.Field("Description", s.GetDescription())
	d.Field("URL", s.GetHttp().GetUrl())
	if s.GetStdio() != nil {
		d.Field("Started by", resources.CommandLine(s.GetStdio().GetCommand()))
		d.Field("Environment", strings.ReplaceAll(resources.Labels(s.GetStdio().GetEnv()), ",", "\n"))
		d.Field("Directory", s.GetStdio().GetWorkingDir())
	}
	r.history(ctx, d, s)
	d.Section("Tools", ToolTable(tools, observed), "none: import them with reevectl tool import "+kind.Short(name)+" -n "+kind.NamespaceOf(name))
	if err := members(d, []*grantv1.Server{s}, "server", tools, "tools"); err != nil {
		return nil, err
	}
	return d, list(d, "observed", observed)
}

// ToolTable shows tools with their pins, and what sidecars saw and withheld.
func ToolTable(tools []*grantv1.Tool, observed []*adminv1.ObservedTool) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "NAME", Names: true}, {Title: "EFFECT"}, {Title: "REACH"}, {Title: "PIN"}, {Title: "SERVED", IfAny: true},
	}}
	seen := make(map[string]bool)
	for _, o := range observed {
		seen[o.GetName()] = true
	}
	for _, tool := range tools {
		served := ""
		if seen[tool.GetName()] {
			served = "changed"
		}
		delete(seen, tool.GetName())
		t.Add(kind.Short(tool.GetName()), resources.Word(tool.GetEffect().String()), resources.Word(tool.GetReach().String()),
			resources.Pin(tool.GetDigest()), served)
	}
	for _, o := range observed {
		if seen[o.GetName()] {
			t.Add(kind.Short(o.GetName()), "", "", "", "unknown")
			delete(seen, o.GetName())
		}
	}
	return t
}

// Tool describes a tool: what it was classified as, what it is pinned to, what
// sidecars saw of it, and who may call it.
func (r *Reader) Tool(ctx context.Context, name string) (*output.Description, error) {
	m, err := resources.Get(ctx, r.Conn, kind.Tool, name)
	if err != nil {
		return nil, err
	}
	tool, _ := m.(*grantv1.Tool)
	server, _, _ := strings.Cut(name, "/tools/")
	observed, err := resources.Observed(ctx, r.Conn, server)
	if err != nil && !hidden(err) {
		return nil, err
	}
	observed = slices.DeleteFunc(observed, func(o *adminv1.ObservedTool) bool { return o.GetName() != name })
	d := &output.Description{}
	d.Field("Tool", name)
	d.Field("Description", tool.GetDescription())
	d.Field("Effect", resources.Word(tool.GetEffect().String()))
	d.Field("Reach", resources.Word(tool.GetReach().String()))
	r.history(ctx, d, tool)
	if tool.GetDigest() == "" {
		d.Field("Pin", "none: whatever the server says of it passes; pin it with reevectl tool import "+
			kind.Short(server)+" -n "+kind.NamespaceOf(name))
	} else {
		d.Field("Pin", tool.GetDigest())
		d.Field("Served as", tool.GetDefinition().GetFields()["description"].GetStringValue())
		d.Field("Arguments", tool.GetInputSchema())
	}
	for _, o := range observed {
		d.Field("Changed to", fmt.Sprintf("%s, seen %s ago by a sidecar of %s", o.GetDigest(), output.Age(o.GetFirstSeen(), r.Now), kind.Short(o.GetAgent())))
		changes, err := pins.Changes(tool.GetDefinition(), o.GetDefinition())
		if err != nil {
			return nil, err
		}
		d.Field("", strings.Join(changes, "\n"))
	}
	if err := members(d, []*grantv1.Tool{tool}, "tool", observed, "observed"); err != nil {
		return nil, err
	}
	return d, r.addHolders(ctx, d, name)
}

func (r *Reader) addHolders(ctx context.Context, d *output.Description, tool string) error {
	holders, err := resources.WhoCan(ctx, r.Conn, &adminv1.WhoCanRequest{
		Parent: "namespaces/" + kind.NamespaceOf(tool),
		Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: kind.Short(tool)}},
	})
	if hidden(err) {
		d.Section("Agents that may call it", &output.Table{}, withheld(err))
		return nil
	}
	if err != nil {
		return err
	}
	d.Section("Agents that may call it", resources.HolderTable(holders), "none")
	return list(d, "holders", holders)
}
