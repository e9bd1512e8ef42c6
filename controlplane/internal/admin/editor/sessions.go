package editor

import (
	"errors"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// endSessions removes the sessions of an agent that is removed: nothing survives
// its parent. It refuses if there are more than the transaction can carry.
func (e *Edit) endSessions(n grant.Name) error {
	if n.Collection != grant.Agents {
		return nil
	}
	all, err := e.tx.List(e.ctx, n.String()+"/sessions/")
	if err != nil {
		return err
	}
	for _, r := range all {
		err := e.tx.Delete(r.Name)
		if errors.Is(err, store.ErrTooLarge) {
			return refusal.Impossible("agent %q: it has %d sessions, more than can be ended together with what else is removed: "+
				"run reevectl session end --agent %s -n %s first", n, len(all), n.ID, n.Namespace)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
