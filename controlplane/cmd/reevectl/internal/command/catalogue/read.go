package catalogue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/live"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// liveWithin is how long a server may take to list its tools; one that is
	// started may have to be downloaded first.
	liveWithin = time.Minute
	// maxHeaders is how many bytes a file of headers may have.
	maxHeaders = 64 << 10
)

// reading is how a server's tools are read.
type reading struct {
	observed        bool
	launch          launchFlag
	url, headerFile string
	within          time.Duration
}

func (r *reading) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&r.observed, "observed", false, "take what sidecars saw, instead of asking the server")
	f.Var(&r.launch, "launch", "start a server that speaks over standard input and output:\nits line runs here, as you; with a digest, only the line that\nhas it")
	f.Lookup("launch").NoOptDefVal = anyLine
	f.StringVar(&r.url, "url", "", "where to reach the server from here, if not as the catalogue says")
	f.StringVar(&r.headerFile, "header-file", "", "file of headers to send, \"Name: value\" a line")
	_ = cmd.MarkFlagFilename("header-file") // there is such a flag
}

// compare reads a server's tools and compares them with what is pinned.
func (a *app) compare(ctx context.Context, conn session.Conn, name string, r *reading) ([]*pins.Item, error) {
	m, err := resources.Get(ctx, conn, kind.Server, name)
	if err != nil {
		return nil, err
	}
	server, _ := m.(*grantv1.Server)
	stored, err := resources.Tools(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	if r.observed {
		if r.url != "" || r.headerFile != "" || r.launch.said {
			return nil, cli.Usage("--observed asks no server: leave --url, --header-file and --launch out")
		}
		return compareObserved(ctx, conn, name, stored)
	}
	source, err := a.source(server, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	served, err := live.Tools(ctx, source)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("server %s did not list its tools within %s: give it more --timeout, or take what sidecars saw with --observed",
			kind.Short(name), output.Duration(r.within))
	case err != nil && source.URL != "":
		return nil, fmt.Errorf("read tools of %s at %s: %s: if it cannot be reached from here, give --url, or take what sidecars saw with --observed",
			kind.Short(name), source.URL, output.Visible(err.Error()))
	case err != nil:
		return nil, fmt.Errorf("read tools of %s, started by %s: %w: if it cannot be started here, take what sidecars saw with --observed",
			kind.Short(name), output.Visible(resources.CommandLine(source.Command)), err)
	}
	return pins.Compare(stored, served)
}

// source is where a server is read from.
func (a *app) source(server *grantv1.Server, r *reading) (live.Source, error) {
	s := live.Source{URL: server.GetHttp().GetUrl(), Getenv: a.Getenv}
	if r.url != "" {
		s.URL = r.url
	}
	if r.headerFile != "" {
		var err error
		if s.Header, err = readHeaders(r.headerFile); err != nil {
			return s, err
		}
	}
	if s.URL != "" {
		return s, nil
	}
	stdio := server.GetStdio()
	if len(stdio.GetCommand()) == 0 {
		return s, fmt.Errorf("the catalogue does not say how server %s is reached: give --url", kind.Short(server.GetName()))
	}
	if r.headerFile != "" {
		return s, cli.Usage("--header-file is of a server that is reached over HTTP")
	}
	if err := a.mayLaunch(server, r.launch); err != nil {
		return s, err
	}
	s.Command, s.Env, s.Dir = stdio.GetCommand(), stdio.GetEnv(), stdio.GetWorkingDir()
	return s, nil
}

func readHeaders(path string) (http.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxHeaders))
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	h := make(http.Header)
	for n, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%s:%d: not a header: write \"Name: value\"", path, n+1) // not its text, which may be a secret
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// compareObserved is compare of what sidecars saw. They report only what differs:
// of what they did not report nothing is said.
func compareObserved(ctx context.Context, conn session.Conn, server string, stored []*grantv1.Tool) ([]*pins.Item, error) {
	seen, err := resources.Observed(ctx, conn, server)
	if err != nil {
		return nil, err
	}
	var served []*structpb.Struct
	for _, o := range seen {
		if o.GetPinnedDigest() != o.GetDigest() {
			served = append(served, o.GetDefinition())
		}
	}
	items, err := pins.Compare(stored, served)
	if err != nil {
		return nil, fmt.Errorf("%w; sidecars may have seen several definitions: see reevectl tool observed, and accept one by its digest", err)
	}
	return slices.DeleteFunc(items, func(i *pins.Item) bool { return i.State == pins.Gone }), nil
}

// showItems shows how tools differ from what is pinned.
func (a *app) showItems(items []*pins.Item) error {
	if a.Format.Full() {
		return a.itemsDocument(items)
	}
	t, same := itemTable(items)
	if t.Rows() > 0 {
		if err := a.Write(t); err != nil {
			return err
		}
	}
	if same > 0 {
		a.Say("%d tools are served as they are pinned", same)
	}
	return nil
}

// itemTable shows tools that differ, and says how many do not.
func itemTable(items []*pins.Item) (t *output.Table, same int) {
	t = &output.Table{Columns: []output.Column{{Title: "TOOL", Names: true}, {Title: "STATE"}, {Title: "PIN"}, {Title: "SERVED"}}}
	for _, i := range items {
		if i.State == pins.Same && len(i.Warnings) == 0 {
			same++
			continue
		}
		t.Add(i.Name, string(i.State), resources.Pin(i.Stored.GetDigest()), resources.Pin(i.Digest))
		for _, line := range i.Changes {
			t.Note(line)
		}
		for _, line := range i.Warnings {
			t.Note("warning: " + line)
		}
	}
	return t, same
}

// itemsDocument prints the same for programs.
func (a *app) itemsDocument(items []*pins.Item) error {
	type item struct {
		Name     string     `json:"name"`
		State    pins.State `json:"state"`
		Digest   string     `json:"digest,omitempty"`
		Pinned   string     `json:"pinnedDigest,omitempty"`
		Changes  []string   `json:"changes,omitempty"`
		Warnings []string   `json:"warnings,omitempty"`
	}
	all := make([]item, 0, len(items))
	for _, i := range items {
		all = append(all, item{i.Name, i.State, i.Digest, i.Stored.GetDigest(), i.Changes, i.Warnings})
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encode tools: %w", err)
	}
	return output.Document(a.Out, a.Format, text)
}
