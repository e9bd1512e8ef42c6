package session

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// progress says how far a revision has come.
func progress(p *adminv1.AwaitRevisionResponse) string {
	if p.GetInForce() {
		said := fmt.Sprintf("in force: %d applied, %d pending, %d cut off", p.GetApplied(), p.GetPending(), p.GetCutOff())
		if p.GetRefused() > 0 {
			said += fmt.Sprintf(", %d refused", p.GetRefused())
		}
		after := ""
		if p.GetElapsed() != nil {
			after = ", after " + took(p.GetElapsed().AsDuration())
		}
		return fmt.Sprintf("%s (revision %d%s)", said, p.GetRevision(), after)
	}
	said := []string{fmt.Sprintf("applied %d/%d", p.GetApplied(), p.GetApplied()+lacking(p))}
	for _, c := range []struct {
		n    int32
		word string
	}{{p.GetPending(), "pending"}, {p.GetRefused(), "refused"}, {p.GetCutOff(), "cut off"}} {
		if c.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	if p.GetSafeIn() != nil {
		said = append(said, "safe in "+output.Duration(p.GetSafeIn().AsDuration()))
	}
	text := "not in force yet: " + strings.Join(said, ", ")
	if who := waitedFor(p); who != "" {
		text += "; waiting for " + who
	}
	return text
}

// took says how long something took that may have been quick.
func took(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return output.Duration(d)
}

// lacking is how many sidecars are known that may act without the revision.
func lacking(p *adminv1.AwaitRevisionResponse) int32 {
	return p.GetPending() + p.GetRefused() + p.GetCutOff()
}

// waitedFor names the first that is waited for, and says how many more there are.
func waitedFor(p *adminv1.AwaitRevisionResponse) string {
	more := int(lacking(p)) + len(p.GetUnheardReplicas()) - 1
	var first string
	switch {
	case len(p.GetStragglers()) > 0:
		s := p.GetStragglers()[0]
		at := ""
		if s.GetReplica() != "" {
			at = " at " + s.GetReplica()
		}
		first = fmt.Sprintf("%s%s (%s)", agentOf(s), at, why(s))
	case len(p.GetUnheardReplicas()) > 0:
		first = unheardReplica(p.GetUnheardReplicas()[0])
	case p.GetSafeIn().AsDuration() > 0 && lacking(p) == 0:
		// Nobody who is known is waited for.
		return "what nobody names: a control plane that has not heard of it yet, or sidecars of before a restart"
	default:
		return ""
	}
	if more > 0 {
		first += fmt.Sprintf(" and %d more", more)
	}
	return output.Visible(first)
}

// agentOf is a sidecar's agent as namespace/agent.
func agentOf(s *adminv1.Sidecar) string {
	if ns := kind.NamespaceOf(s.GetAgent()); ns != "" {
		return ns + "/" + kind.Short(s.GetAgent())
	}
	return s.GetAgent()
}

// why says why a sidecar is waited for.
func why(s *adminv1.Sidecar) string {
	left := ""
	if s.GetFreshFor() != nil {
		left = ", fresh for " + output.Duration(s.GetFreshFor().AsDuration())
	}
	switch {
	case len(s.GetRefusals()) > 0:
		r := s.GetRefusals()[0]
		return fmt.Sprintf("refuses %s: %s", kind.Short(r.GetName()), r.GetDetail())
	case !s.GetConnected():
		return "cut off" + left
	default:
		return fmt.Sprintf("pending, holds %d", s.GetRevision()) + left
	}
}

// unheardReplica says what a replica cannot say.
func unheardReplica(r *adminv1.Replica) string {
	state := "does not answer"
	switch r.GetState() {
	case adminv1.Replica_ENDED:
		state = "has ended"
	case adminv1.Replica_DETACHED:
		state = "cannot read the store, and so who else let sidecars act"
	default:
	}
	left := ""
	if r.GetFreshFor() != nil {
		left = " for " + output.Duration(r.GetFreshFor().AsDuration())
	}
	whose := "its sidecars"
	if r.GetState() == adminv1.Replica_DETACHED {
		whose = "some"
	}
	return fmt.Sprintf("replica %s (%s; %s may be fresh%s)", r.GetReplica(), state, whose, left)
}

// stragglers lists all that is waited for, as far as it was told.
func stragglers(w io.Writer, width int, p *adminv1.AwaitRevisionResponse) error {
	if len(p.GetStragglers()) > 0 {
		t := &output.Table{Columns: []output.Column{
			{Title: "AGENT", Names: true}, {Title: "INSTANCE", Shrinks: true}, {Title: "REPLICA", Names: true}, {Title: "WAITED FOR"},
		}}
		for _, s := range p.GetStragglers() {
			if len(s.GetRefusals()) == 0 {
				t.Add(agentOf(s), s.GetInstance(), s.GetReplica(), why(s))
				continue
			}
			t.Add(agentOf(s), s.GetInstance(), s.GetReplica(), "refuses")
			for _, r := range s.GetRefusals() {
				t.Note(kind.Short(r.GetName()) + ": " + r.GetDetail())
			}
		}
		if err := t.Fit(w, width); err != nil {
			return err
		}
		if more := int(lacking(p)) - len(p.GetStragglers()); more > 0 {
			if _, err := fmt.Fprintf(w, "and %d more: see reevectl sidecars -A\n", more); err != nil {
				return err
			}
		}
	}
	for _, r := range p.GetUnheardReplicas() {
		if _, err := fmt.Fprintln(w, output.Visible(unheardReplica(r))); err != nil {
			return err
		}
	}
	return nil
}

// width is how wide standard error is, or 0 if it is no terminal.
func (s *Session) width() int {
	if s.columns > 0 {
		return s.columns
	}
	return output.Width(s.Err)
}

// show shows a line of progress: on a terminal in the place of the one before it.
func (s *Session) show(text string) {
	width := s.width()
	if width == 0 {
		s.Say("%s", text)
		return
	}
	fmt.Fprintf(s.Err, "\r%s\x1b[K", output.Cut(text, width-1)) //nolint:errcheck // there is nobody else to tell
	s.live = true
}

// clear removes the line of progress.
func (s *Session) clear() {
	if s.live {
		fmt.Fprint(s.Err, "\r\x1b[K") //nolint:errcheck // there is nobody else to tell
		s.live = false
	}
}
