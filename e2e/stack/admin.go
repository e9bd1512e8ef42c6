package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// AdminTLS returns the first administrator's credentials, made from files as
// any client in any language would.
func (s *Stack) AdminTLS() (*tls.Config, error) {
	dir := filepath.Join(s.DataDir, "bootstrap")
	return ClientTLS(filepath.Join(dir, "admin.pem"), filepath.Join(dir, "admin-key.pem"), filepath.Join(dir, "ca.pem"))
}

// ClientTLS reads PEM files. Without a certificate file the client shows none.
func ClientTLS(certFile, keyFile, rootsFile string) (*tls.Config, error) {
	roots, err := os.ReadFile(rootsFile)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("read roots: none in %s", rootsFile)
	}
	cfg := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	if certFile == "" {
		return cfg, nil
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cfg.Certificates = []tls.Certificate{certificate}
	return cfg, nil
}

// Dial returns a connection, made when it is first used.
func Dial(address string, cfg *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
}

// AllDecisions returns every decision of the example's namespace, newest first.
func (s *Stack) AllDecisions(ctx context.Context) (all []*adminv1.LoggedDecision, err error) {
	cfg, err := s.AdminTLS()
	if err != nil {
		return nil, err
	}
	conn, err := Dial(s.AdminAddress, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	request := &adminv1.ListDecisionsRequest{
		Filter: &adminv1.DecisionFilter{Parent: "namespaces/" + Namespace}, PageSize: 1000,
	}
	for {
		page, err := adminv1.NewDecisionsClient(conn).ListDecisions(ctx, request, grpc.WaitForReady(true))
		if err != nil {
			return nil, fmt.Errorf("list decisions: %w", err)
		}
		all = append(all, page.GetDecisions()...)
		if page.GetNextPageToken() == "" {
			return all, nil
		}
		request.PageToken = page.GetNextPageToken()
	}
}

// Decisions returns what `reevectl decisions` shows of the example's namespace,
// newest first. Arguments narrow it.
func (s *Stack) Decisions(ctx context.Context, args ...string) ([]*adminv1.LoggedDecision, error) {
	out, err := s.Reevectl(ctx, append([]string{"decisions", "-n", Namespace, "-o", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(out, &raw); err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	decisions := make([]*adminv1.LoggedDecision, len(raw))
	for i, one := range raw {
		decisions[i] = new(adminv1.LoggedDecision)
		if err := protojson.Unmarshal(one, decisions[i]); err != nil {
			return nil, fmt.Errorf("read decision: %w", err)
		}
	}
	return decisions, nil
}
