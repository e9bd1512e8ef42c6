package audit

import (
	"log/slog"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Decisions implements adminv1.DecisionsServer over a log. Who may call it is
// settled before.
type Decisions struct {
	adminv1.UnimplementedDecisionsServer
}

// NewDecisions returns the service.
func NewDecisions(l *Log, log *slog.Logger) *Decisions { return &Decisions{} }
