package authority

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func (a *app) explainCommand() *cobra.Command {
	var args, what, at, in string
	cmd := &cobra.Command{
		Use:   "explain AGENT SERVER/TOOL",
		Short: "Say what a call would be answered, and why",
		Long: `Decide a call as the agent's sidecar would, by the same code, and say what each
grant that could apply has to say. Nothing is called and nothing is recorded.`,
		Example: `  reevectl explain support desk/refund --args '{"amount": 900}'
  reevectl explain support desk/refund --session s-7f3a
  reevectl explain support desk/desk://policies/returns --kind resource`,
		Args: cli.Exactly(2, "AGENT SERVER/TOOL"),

		ValidArgsFunction: a.AgentThenTool,
	}
	cmd.Flags().StringVar(&args, "args", "", "the call's arguments, a JSON object")
	cmd.Flags().StringVar(&what, "kind", "tool", "what is called: tool, resource, prompt or method")
	cmd.Flags().StringVar(&at, "at", "", "the instant to decide for, such as 2027-01-31T00:00:00Z (default now)")
	cmd.Flags().StringVar(&in, "session", "", "the session that the call would be made in, by id")
	cli.Complete(cmd, "kind", []string{"tool", "resource", "prompt", "method"})
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, words []string) error {
		req := &adminv1.ExplainCallRequest{Arguments: []byte(args)}
		var err error
		if req.Agent, err = a.Name(kind.Agent, words[0]); err != nil {
			return err
		}
		if req.Target, err = targetOf(what, words[1]); err != nil {
			return err
		}
		if req.Time, err = cli.At("--at", at); err != nil {
			return err
		}
		if in != "" {
			if !strings.Contains(in, "/") {
				in = req.GetAgent() + "/sessions/" + in
			}
			if req.Session, err = kind.SessionName(in, a.Namespace); err != nil {
				return session.UsageError{Err: err}
			}
		}
		ctx, cancel := session.Brief(ctx)
		defer cancel()
		resp, err := adminv1.NewGrantsClient(conn).ExplainCall(ctx, req)
		if err != nil {
			return err
		}
		return a.Print(resp, func(w io.Writer) error { return a.explained(w, resp) })
	})
	return cmd
}

func targetOf(what, text string) (*grantv1.Target, error) {
	switch what {
	case "tool":
		return &grantv1.Target{Target: &grantv1.Target_Tool{Tool: text}}, nil
	case "resource":
		return &grantv1.Target{Target: &grantv1.Target_Resource{Resource: text}}, nil
	case "prompt":
		return &grantv1.Target{Target: &grantv1.Target_Prompt{Prompt: text}}, nil
	case "method":
		return &grantv1.Target{Target: &grantv1.Target_Method{Method: text}}, nil
	default:
		return nil, session.UsageError{Err: fmt.Errorf("--kind %q: use one of tool, resource, prompt, method", what)}
	}
}

func (a *app) explained(w io.Writer, resp *adminv1.ExplainCallResponse) error {
	verdict := "deny"
	if resp.GetVerdict() == decisionv1.Decision_ALLOW {
		verdict = "allow"
	}
	by := ""
	if resp.GetGrant() != "" {
		by = " by " + resp.GetGrant()
	}
	if _, err := fmt.Fprintf(w, "%s: %s%s (revision %d)\n", verdict, resp.GetReason(), by, resp.GetRevision()); err != nil {
		return err
	}
	for _, note := range resp.GetNotes() {
		if _, err := fmt.Fprintf(w, "note: %s\n", output.Visible(note)); err != nil {
			return err
		}
	}
	if len(resp.GetFindings()) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return a.Write(findingTable(resp.GetFindings()))
}

// findingTable shows what grants had to say.
func findingTable(findings []*adminv1.ExplainCallResponse_Finding) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "GRANT", Names: true}, {Title: "EFFECT"}, {Title: "APPLIES"}, {Title: "DETAIL", Shrinks: true},
	}}
	for _, f := range findings {
		applies := "no"
		if f.GetApplies() {
			applies = "yes"
		}
		t.Add(kind.Short(f.GetGrant()), strings.ToLower(f.GetEffect().String()), applies, f.GetDetail())
	}
	return t
}
