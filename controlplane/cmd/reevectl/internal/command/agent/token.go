package agent

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:     "token",
		Short:   "Make join tokens, by which sidecars enrol",
		Example: "  reevectl token create support",
	})
	var (
		ttl string
		c   session.Change
	)
	create := &cobra.Command{
		Use:   "create AGENT",
		Short: "Make a token that enrols one sidecar for an agent",
		Long: `Make a join token, and print it with the command that enrols a sidecar by it. A
token is told once and works once: used with a second key, within a day of the
first, it suspends the agent.`,
		Example: "  reevectl token create support\n  reevectl token create support --ttl 15m -o json",
		Args:    cli.Exactly(1, "AGENT"),

		ValidArgsFunction: a.IDs(kind.Agent, 1),
	}
	create.Flags().StringVar(&ttl, "ttl", "1h", "how long the token may be used, up to 7d")
	c.ReasonFlags(create)
	create.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		name, err := a.Name(kind.Agent, args[0])
		if err != nil {
			return err
		}
		d, err := cli.Duration(ttl)
		if err != nil {
			return session.UsageError{Err: fmt.Errorf("--ttl: %w", err)}
		}
		token, err := createToken(ctx, conn, &c, name, d)
		if err != nil {
			return err
		}
		return a.Print(token, func(w io.Writer) error { return printToken(w, token, a.Now()) })
	})
	cmd.AddCommand(create)
	return cmd
}

// createToken makes a join token that is good for a time.
func createToken(ctx context.Context, conn session.Conn, c *session.Change, agent string, life time.Duration) (token *adminv1.JoinToken, err error) {
	_, err = c.Made(ctx, "a token may have been made that nobody knows; make another",
		func(ctx context.Context, opts ...grpc.CallOption) error {
			token, err = adminv1.NewAgentsClient(conn).CreateJoinToken(ctx,
				&adminv1.CreateJoinTokenRequest{Agent: agent, Ttl: durationpb.New(life), Reason: c.Reason}, opts...)
			return err
		})
	if err != nil {
		return nil, noAgent(err, agent)
	}
	return token, nil
}

// printToken prints a token with the command that uses it. The token goes in by
// standard input, for everyone on a machine can read its command lines.
func printToken(w io.Writer, t *adminv1.JoinToken, now time.Time) error {
	_, err := fmt.Fprintf(w, `Join token of %s, for one use until %s (%s):

  %s

Enrol a sidecar with it, on the agent's machine:

  echo %s | reeve-sidecar enroll \
    --control-plane %s \
    --enroll-address %s \
    --ca-digest %s \
    --join-token-file -
`, t.GetAgent(), output.Clock(t.GetExpireTime(), now), output.Until(t.GetExpireTime(), now), t.GetToken(), t.GetToken(),
		t.GetSidecarAddress(), t.GetEnrollAddress(), t.GetCaDigest())
	return err
}
