package mcp

import (
	"crypto/x509"

	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// Trust has h trust roots for servers.
func Trust(h *Handler, roots *x509.CertPool) { h.wire.Trust(roots) }

// Sentence returns what an agent is told of a denial.
func Sentence(h *Handler, c pdp.Call, d pdp.Decision) string {
	return (&exchange{h: h}).sentence(c, d)
}
