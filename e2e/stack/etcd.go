package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// EtcdConfig says what etcd cluster to run.
type EtcdConfig struct {
	// Program is the etcd binary, as `make .bin/etcd` builds it.
	Program string
	// Dir is the folder for certificates, data and output; it must exist.
	Dir string
	// Members is how many there are; 0 is as many as Hosts, or 1.
	Members int
	// Hosts are where the members run, one each; empty is this machine's
	// loopback.
	Hosts []Host
	// NoSync leaves out fsync: what was written survives kill -9 all the same,
	// which is the worst that tests do to a member, and writing is faster.
	NoSync bool
}

// Etcd is a real etcd cluster with mutual TLS among its members and to clients:
//
//	etcd, err := stack.StartEtcd(ctx, stack.EtcdConfig{Program: ".bin/etcd", Dir: dir, Members: 3})
//	defer etcd.Close()
//
// Members are killed, paused and started again as any [Process] is.
type Etcd struct {
	// Members are the processes.
	Members []*Process
	// Endpoints are the members' client URLs, in their order.
	Endpoints []string
	// CAFile, CertFile and KeyFile are what a client needs.
	CAFile, CertFile, KeyFile string

	clients []*http.Client // one for each member, from its own host
}

// Election is how long a cluster may be without a leader after it lost one,
// somewhat generously: members elect after one to two times 500 ms.
const Election = 3 * time.Second

// StartEtcd starts a cluster and waits until it serves. After an error nothing
// runs.
func StartEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = make([]Host, max(cfg.Members, 1))
	}
	e, err := newEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare etcd: %w", err)
	}
	if err := e.start(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// start starts the members together: one alone is not ready, for it has no
// leader.
func (e *Etcd) start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range e.Members {
		group.Go(func() error { return m.Start(ctx) })
	}
	return group.Wait()
}

func newEtcd(cfg EtcdConfig) (*Etcd, error) {
	ports, err := FreePorts(2 * len(cfg.Hosts))
	if err != nil {
		return nil, err
	}
	e := &Etcd{
		CAFile:   filepath.Join(cfg.Dir, "etcd-ca.pem"),
		CertFile: filepath.Join(cfg.Dir, "etcd.pem"), KeyFile: filepath.Join(cfg.Dir, "etcd-key.pem"),
	}
	if err := e.writeCertificates(cfg.Hosts); err != nil {
		return nil, err
	}
	tls, err := ClientTLS(e.CertFile, e.KeyFile, e.CAFile)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i, host := range cfg.Hosts {
		cluster = append(cluster, fmt.Sprintf("m%d=https://%s", i, host.Address(ports[2*i+1])))
		e.Endpoints = append(e.Endpoints, "https://"+host.Address(ports[2*i]))
	}
	for i, host := range cfg.Hosts {
		name := fmt.Sprintf("m%d", i)
		dir := filepath.Join(cfg.Dir, "etcd-"+name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		peer := "https://" + host.Address(ports[2*i+1])
		arguments := []string{
			"--name", name, "--data-dir", filepath.Join(dir, "data"), "--log-level", "warn",
			"--listen-client-urls", e.Endpoints[i], "--advertise-client-urls", e.Endpoints[i],
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","),
			"--client-cert-auth", "--trusted-ca-file", e.CAFile, "--cert-file", e.CertFile, "--key-file", e.KeyFile,
			"--peer-client-cert-auth", "--peer-trusted-ca-file", e.CAFile, "--peer-cert-file", e.CertFile, "--peer-key-file", e.KeyFile,
			"--heartbeat-interval", "50", "--election-timeout", "500",
		}
		if cfg.NoSync {
			arguments = append(arguments, "--unsafe-no-fsync")
		}
		client := &http.Client{Transport: &http.Transport{
			DialContext: host.DialContext, TLSClientConfig: tls.Clone(), DisableKeepAlives: true,
		}}
		member := NewProcess(dir, cfg.Program, e.Endpoints[i]+"/health", arguments...).On(host)
		member.asks = client
		e.Members = append(e.Members, member)
		e.clients = append(e.clients, client)
	}
	return e, nil
}

// Leader returns the number of the member that leads, as the first one says
// that is asked and knows. It fails if there is none just now.
func (e *Etcd) Leader(ctx context.Context) (int, error) {
	ids := make(map[string]int)
	var leader string
	for i := range e.Members {
		s, err := e.status(ctx, i)
		if err != nil {
			continue // it is paused, killed or cut off; others are asked
		}
		ids[s.Header.MemberID] = i
		if s.Leader != "" && s.Leader != "0" {
			leader = s.Leader
		}
		if i, ok := ids[leader]; ok {
			return i, nil
		}
	}
	return 0, errors.New("find etcd's leader: no member names one that answers")
}

type etcdStatus struct {
	Header struct {
		MemberID string `json:"member_id"`
	} `json:"header"`
	Leader string `json:"leader"`
}

// status asks a member by etcd's JSON gateway.
func (e *Etcd) status(ctx context.Context, member int) (s etcdStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	url := e.Endpoints[member] + "/v3/maintenance/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte("{}")))
	if err != nil {
		return s, err
	}
	resp, err := e.clients[member].Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// Close ends the members.
func (e *Etcd) Close() {
	for _, m := range e.Members {
		m.Kill() // at once, paused or not; nobody needs its data
	}
}
