package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// completeWithin is how long a person waits for a shell to complete a word.
const completeWithin = 2 * time.Second

// Complete has a shell complete a flag with words.
func Complete(c *cobra.Command, flag string, words []string) {
	CompleteBy(c, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// CompleteBy has a shell complete a flag by a function.
func CompleteBy(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	// The only error is that there is no such flag, and then there is nothing to
	// complete.
	_ = c.RegisterFlagCompletionFunc(flag, f)
}

// IDs completes the ids of resources of a kind, as many as high, or any number if
// it is 0.
func (a *App) IDs(k kind.Kind, high int) cobra.CompletionFunc {
	return a.completed(high, func(ctx context.Context, conn session.Conn) ([]string, error) {
		found, err := resources.List(ctx, conn, k, a.Namespace)
		return shorts(found), err
	})
}

// Sessions completes the ids of sessions, agent/session.
func (a *App) Sessions() cobra.CompletionFunc {
	return a.completed(0, func(ctx context.Context, conn session.Conn) ([]string, error) {
		found, err := session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListSessionsResponse, error) {
			return adminv1.NewSessionsClient(conn).ListSessions(ctx,
				&adminv1.ListSessionsRequest{Parent: "namespaces/" + a.Namespace + "/agents/-", PageSize: size, PageToken: token})
		}, (*adminv1.ListSessionsResponse).GetSessions)
		return shorts(found), err
	})
}

// Admins completes the names of administrators.
func (a *App) Admins() cobra.CompletionFunc {
	return a.completed(1, func(ctx context.Context, conn session.Conn) ([]string, error) {
		resp, err := adminv1.NewAdminsClient(conn).ListAdmins(ctx, &adminv1.ListAdminsRequest{})
		return shorts(resp.GetAdmins()), err
	})
}

// Contexts completes the names of contexts.
func (a *App) Contexts() cobra.CompletionFunc {
	return func(_ *cobra.Command, typed []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(typed) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		f, err := a.File()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, c := range f.Contexts {
			names = append(names, c.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// KindAndIDs completes a kind, then the ids of resources of it.
func (a *App) KindAndIDs(cmd *cobra.Command, typed []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(typed) == 0 {
		return kind.Words(), cobra.ShellCompDirectiveNoFileComp
	}
	k, err := kind.Parse(typed[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return a.IDs(k, 0)(cmd, typed[1:], word)
}

// AgentThenTool completes the id of an agent, then one of a tool.
func (a *App) AgentThenTool(cmd *cobra.Command, typed []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(typed) == 1 {
		return a.IDs(kind.Tool, 0)(cmd, nil, word)
	}
	return a.IDs(kind.Agent, 1)(cmd, typed, word)
}

// completed completes what a list has and what was not typed yet.
func (a *App) completed(high int, list func(context.Context, session.Conn) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, typed []string, _ string) ([]string, cobra.ShellCompDirective) {
		if high > 0 && len(typed) >= high || cmd.Context() == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ids, err := a.listed(cmd.Context(), list)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(typed, id) }), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *App) listed(ctx context.Context, list func(context.Context, session.Conn) ([]string, error)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	c, err := a.Chosen()
	if err != nil {
		return nil, err
	}
	conn, _, err := c.Dial(a.Now())
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is in flight any more
	return list(ctx, conn)
}

// shorts returns the short ids of named messages.
func shorts[M proto.Message](found []M) []string {
	var ids []string
	for _, m := range found {
		if named, ok := any(m).(interface{ GetName() string }); ok {
			ids = append(ids, kind.Short(named.GetName()))
		}
	}
	return ids
}
