package mcp

import "crypto/x509"

// Trust has h trust roots for servers.
func Trust(h *Handler, roots *x509.CertPool) { h.wire.Trust(roots) }
