package mcp

import (
	"crypto/tls"
	"crypto/x509"
)

// Trust has h trust roots for servers.
func Trust(h *Handler, roots *x509.CertPool) {
	h.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
}
